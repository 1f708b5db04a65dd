//! Files that a device keeps between programs: the driver's pipelines and the kernels that tuning chose.
//!
//! `KILN_CACHE` names the folder, or is `off`; without it the platform's folder for caches is used. A file is never
//! trusted: a header of this module says whose it is and holds a checksum, and what does not fit is ignored.

use std::fs::File;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::file::{self, Durability};
use crate::kernel::hash;
use crate::settings::Keep;

const MAGIC: &[u8; 8] = b"kiln 001";
/// Most bytes that are read of a file: drivers keep a few dozen megabytes.
const MOST: u64 = 1 << 28;

/// The folder, if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// As the user wants it.
    pub fn new(keep: &Keep) -> Cache {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = match keep {
            Keep::Nothing => None,
            Keep::In(folder) => Some(folder.clone()),
            Keep::Default => {
                let home = || variable("HOME").map(PathBuf::from);
                let base = if cfg!(windows) {
                    variable("LOCALAPPDATA").map(PathBuf::from)
                } else if cfg!(target_os = "macos") {
                    home().map(|home| home.join("Library").join("Caches"))
                } else {
                    variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| home().map(|home| home.join(".cache")))
                };
                base.map(|base| base.join("kiln"))
            }
        };
        Cache { folder }
    }

    /// Where the data of `key` lies; `None` if nothing is kept.
    pub fn path(&self, kind: &str, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{kind}-{:016x}.bin", hash(key.as_bytes()))))
    }

    /// The data of `key`; `None` if there is none.
    ///
    /// # Errors
    /// Why a file that is there was ignored.
    pub fn read(&self, kind: &str, key: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(path) = self.path(kind, key) else { return Ok(None) };
        let ignored = |why: &str| Err(format!("{} was ignored: {why}", path.display()));
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = vec![];
            if std::fs::metadata(&path)?.is_file() {
                File::open(&path)?.take(MOST + 1).read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        let bytes = match read() {
            Ok(bytes) if bytes.len() as u64 > MOST => return ignored("it is larger than what is ever kept"),
            Ok(bytes) => bytes,
            // What hinders the folder is told when something is written.
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Ok(None),
            Err(error) => return ignored(&format!("it cannot be read ({error})")),
        };
        match open(&bytes, kind, key) {
            Ok(data) => Ok(Some(data.to_vec())),
            Err(why) => ignored(why),
        }
    }

    /// Keeps data for `key`, in one step: a program that reads meanwhile sees the old file or the new one.
    ///
    /// # Errors
    /// Why it could not be written.
    pub fn write(&self, kind: &str, key: &str, data: &[u8]) -> Result<(), String> {
        let (Some(folder), Some(path)) = (&self.folder, self.path(kind, key)) else { return Ok(()) };
        std::fs::create_dir_all(folder).map_err(|error| not_written(&path, &error))?;
        // What a power cut tears its checksum tells.
        let written = file::replace(&path, Durability::Process, |out| {
            out.write_all(&seal(kind, key, data)).map_err(|error| Error::io(&path, "write", error))
        });
        written.map_err(|error| match error {
            Error::Io { source, .. } => not_written(&path, &source),
            other => other.to_string(),
        })
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be written ({error}): what it would keep is made anew in every program", path.display())
}

/// Magic, checksum of what follows, length of the owner's name, that name, data.
pub fn seal(kind: &str, key: &str, data: &[u8]) -> Vec<u8> {
    let owner = format!("{kind} {key}");
    with_checksum(&[&(owner.len() as u64).to_le_bytes(), owner.as_bytes(), data].concat())
}

/// Magic and checksum before a body.
pub fn with_checksum(body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &hash(body).to_le_bytes(), body].concat()
}

/// The data of a sealed file.
///
/// # Errors
/// Why it is not one of this kind and key.
pub fn open<'a>(bytes: &'a [u8], kind: &str, key: &str) -> Result<&'a [u8], &'static str> {
    let split = |bytes: &'a [u8], at: usize| bytes.split_at_checked(at).ok_or("it is truncated");
    let (magic, rest) = split(bytes, 8)?;
    if magic != MAGIC {
        return Err("it is not of this version of Kiln");
    }
    let (checksum, body) = split(rest, 8)?;
    if checksum != hash(body).to_le_bytes() {
        return Err("its checksum is wrong: it is truncated or damaged");
    }
    let (length, rest) = split(body, 8)?;
    let mut word = [0; 8];
    word.copy_from_slice(length);
    let length = usize::try_from(u64::from_le_bytes(word)).map_err(|_| "it is truncated")?;
    let (owner, data) = split(rest, length)?;
    if owner != format!("{kind} {key}").as_bytes() {
        return Err("it is of another adapter or driver");
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_only_whole_and_by_its_owner() {
        let sealed = seal("pipelines", "a driver", b"data");
        assert_eq!(open(&sealed, "pipelines", "a driver"), Ok(&b"data"[..]));
        assert!(open(&sealed, "pipelines", "another driver").unwrap_err().contains("another"));
        assert!(open(&sealed, "tuning", "a driver").is_err());
        for length in 0..sealed.len() {
            assert!(open(&sealed[..length], "pipelines", "a driver").is_err(), "cut at {length}");
        }
        for i in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[i] ^= 0x10;
            assert!(open(&damaged, "pipelines", "a driver").is_err(), "byte {i}");
        }
    }
}
