//! Files that are replaced as a whole: whoever reads meanwhile, or stops the writer, finds the old file or the new one.
//!
//! The new content goes to a file of its own in the target's folder, which then takes the target's name. Its name is drawn
//! at random and it is created anew, so that nothing that lies there is ever written to: two writers of one path never
//! meet, and a link that somebody put there leads nowhere. While it is written it is locked. What a dead writer has left is
//! removed by the next one of the same target; the lock says who is dead.
//!
//! A target that is a symbolic link is followed, as opening it would be: the file that it leads to is replaced, and the
//! link stays. A target that is neither a file nor missing (a folder, a device, a socket) is refused.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::BuildHasher;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::kernel::hash;

/// Links that lead to a target at most, as Linux has it.
const HOPS: usize = 40;
/// Names that are tried before a save is given up; a second is needed only where a cleaner takes the first for a leftover.
const TRIES: usize = 16;
/// Bytes that are gathered before they are written.
const BUFFER: usize = 1 << 18;

/// How much a replacement must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The end of the program.
    Process,
    /// A power cut: content and name are on the disk when the call returns.
    Power,
}

/// Puts what `write` writes in the place of the file at `path`, all or nothing.
///
/// # Errors
/// The error of `write`, or [`Error::Io`]; the old file is then still whole, and no other is left.
pub(crate) fn replace(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    if cfg!(target_family = "wasm") {
        return Err(Error::io(path, "write", io::Error::new(ErrorKind::Unsupported, "a browser has no files")));
    }
    let target = resolve(path).map_err(|error| Error::io(path, "write", error))?;
    let mode = check_kind(&target).map_err(|error| Error::io(path, "replace", error))?;
    let folder = folder_of(&target);
    let prefix = prefix(&target);
    remove_leftovers(folder, &prefix);
    let (file, temporary) = create(folder, &prefix).map_err(|error| Error::io(path, "write", error))?;
    let result = fill(&file, path, mode, durability, write)
        .and_then(|()| fs::rename(&temporary, &target).map_err(|error| Error::io(path, "replace", error)));
    if let Err(error) = result {
        // Nothing more can be done if even this fails; the next save tries again.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    match durability {
        Durability::Power => sync_folder(folder).map_err(|error| Error::io(folder, "write", error)),
        Durability::Process => Ok(()),
    }
}

/// Puts a text in the place of the file at `path`, all or nothing, and makes its folder.
///
/// # Errors
/// [`Error::Io`]; an old file is then still whole.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<()> {
    make_folder(path)?;
    replace(path, Durability::Process, |to| {
        to.write_all(text.as_bytes()).map_err(|error| Error::io(path, "write", error))
    })
}

/// Makes the folder of the file at `path`.
///
/// # Errors
/// [`Error::Io`] that names the file.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(folder_of(path)).map_err(|error| Error::io(path, "make its folder", error))
}

/// Makes sure that a file can be written at `path`, before hours are spent on what is to go there. Its folder is made. A
/// file that is there stays as it is, and what is no file, such as a pipe, is left alone.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn try_to_write(path: &Path) -> Result<()> {
    let refused = |error| Error::io(path, "write", error);
    if path.is_dir() || path.file_name().is_none() {
        return Err(refused(io::Error::new(ErrorKind::IsADirectory, "it is a folder")));
    }
    make_folder(path)?;
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {
            OpenOptions::new().append(true).open(path).map_err(refused)?;
        }
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    // A disk that is full takes an empty file, and no page.
    let (mut file, probe) = create(folder_of(path), ".kiln-probe-").map_err(refused)?;
    let tried = file.write_all(&[0; 4096]);
    // One that cannot be removed is in nobody's way.
    let _ = fs::remove_file(&probe);
    tried.map_err(refused)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn fill(
    file: &File,
    path: &Path,
    mode: Option<fs::Permissions>,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let io = |error| Error::io(path, "write", error);
    let mut buffered = BufWriter::with_capacity(BUFFER, file);
    write(&mut buffered)?;
    buffered.flush().map_err(io)?;
    drop(buffered);
    if let Some(mode) = mode {
        // A file system without permissions is no reason to lose what was computed.
        let _ = file.set_permissions(mode);
    }
    match durability {
        Durability::Power => file.sync_all().map_err(io),
        Durability::Process => Ok(()),
    }
}

/// The path that links at `path` lead to; what it names need not be there.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..HOPS {
        if target.file_name().is_none() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the path does not name a file"));
        }
        match fs::read_link(&target) {
            // A relative link starts from its own folder.
            Ok(next) => target = target.parent().unwrap_or(Path::new("")).join(next),
            // No link (which systems tell in different ways), or nothing at all.
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::new(ErrorKind::InvalidInput, "its symbolic links lead in a circle"))
}

/// `Err` if there is something other than a file at `target`; the permissions of a file that is there.
fn check_kind(target: &Path) -> io::Result<Option<fs::Permissions>> {
    match fs::symlink_metadata(target) {
        Ok(found) if found.is_file() => Ok(Some(found.permissions()).filter(|mode| !mode.readonly())),
        Ok(found) if found.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder")),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidInput, "it is no regular file")),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the names of all temporary files of a target begin with: short, for the target's own name may be as long as names
/// can be.
fn prefix(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default();
    format!(".kiln-{:016x}-", hash(name.as_encoded_bytes()))
}

fn is_temporary(name: &OsString, prefix: &str) -> bool {
    let name = name.as_encoded_bytes();
    let drawn = name.strip_prefix(prefix.as_bytes()).and_then(|rest| rest.strip_suffix(b".tmp"));
    drawn.is_some_and(|drawn| drawn.len() == 16 && drawn.iter().all(u8::is_ascii_hexdigit))
}

/// A new locked file and its path.
fn create(folder: &Path, prefix: &str) -> io::Result<(File, PathBuf)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..TRIES {
        // Keys that the system draws, so that nobody knows the name before; the counter is for safety's sake.
        let drawn = RandomState::new().hash_one((std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let path = folder.join(format!("{prefix}{drawn:016x}.tmp"));
        // A name that is taken, by a link too, is an error here.
        let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            // A cleaner that came before the lock may have removed it.
            Ok(()) if fs::symlink_metadata(&path).is_ok() => return Ok((file, path)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // A file system without locks: there leftovers stay, for nobody can tell.
            Err(TryLockError::Error(_)) => return Ok((file, path)),
        }
    }
    Err(io::Error::new(ErrorKind::AlreadyExists, "no name for a temporary file was free"))
}

/// Removes the temporary files that no living writer holds. What cannot be removed stays.
fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| is_temporary(&entry.file_name(), prefix)) {
        let path = entry.path();
        // Opening something else could block, or follow a link.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(&path);
        }
    }
}

/// So that the new name survives a power cut.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    // A folder that may be written to but not read cannot be opened.
    let Ok(folder) = File::open(folder) else { return Ok(()) };
    match folder.sync_all() {
        // Some file systems do not know how.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

/// Other systems do not open folders.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}
