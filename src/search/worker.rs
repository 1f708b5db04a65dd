//! Which process runs a trial, and whether it is alive.
//!
//! A process that runs trials of a file holds a lock on a small file of its own beside it, until it ends. The lock says
//! who is dead, however a process died; the file goes with it, or with the next process that looks.

use std::collections::hash_map::RandomState;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Names that are tried; the second is needed only where two processes draw the same 64 bits.
const TRIES: usize = 16;

/// The name of a process that runs trials, and the lock that says that it is alive.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) name: String,
    path: PathBuf,
    _lock: File,
}

impl Worker {
    /// A name of 16 hexadecimal digits, locked beside `study`.
    pub(super) fn new(study: &Path) -> Result<Worker> {
        for _ in 0..TRIES {
            // Keys that the system draws.
            let name = format!("{:016x}", RandomState::new().hash_one(std::process::id()));
            let path = sign(study, &name);
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io(path, "write", error)),
            };
            match file.try_lock() {
                Ok(()) => return Ok(Worker { name, path, _lock: file }),
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => {
                    let _ = fs::remove_file(&path);
                    return Err(Error::io(path, "lock", error));
                }
            }
        }
        Err(Error::io(study, "lock", ErrorKind::AlreadyExists.into()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // What stays is removed by the next process that looks.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process is alive that has this name. One whose sign cannot be read counts as alive.
pub(super) fn is_alive(study: &Path, name: &str) -> bool {
    let path = sign(study, name);
    match OpenOptions::new().write(true).open(&path) {
        Ok(file) => match file.try_lock() {
            Ok(()) => {
                let _ = fs::remove_file(&path);
                false
            }
            Err(_) => true,
        },
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Whether a text is such a name: it becomes a part of a path.
pub(super) fn is_name(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn sign(study: &Path, name: &str) -> PathBuf {
    let mut path = study.as_os_str().to_owned();
    path.push(format!(".{name}.alive"));
    path.into()
}
