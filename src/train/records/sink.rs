//! A file that grows by whole pieces: what cannot be written whole is taken back, so that a full disk leaves no torn line.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file;

/// A file that is opened when there is something to write.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Bytes of whole pieces.
    length: u64,
}

impl Sink {
    pub fn new(path: impl Into<PathBuf>) -> Sink {
        Sink { path: path.into(), open: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if nothing has been written, by an earlier run either.
    pub fn is_empty(&mut self) -> Result<bool> {
        Ok(self.open()?.length == 0)
    }

    /// Appends a piece: all of it, or nothing.
    ///
    /// # Errors
    /// [`Error::Io`]; a later call tries again.
    pub fn append(&mut self, piece: &[u8]) -> Result<()> {
        let open = self.open()?;
        match open.file.write_all(piece) {
            Ok(()) => {
                open.length += piece.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A device that cannot be cut has kept nothing either.
                let _ = open.file.set_len(open.length).and_then(|()| open.file.seek(SeekFrom::Start(open.length)));
                Err(Error::io(&self.path, "write", error))
            }
        }
    }

    /// Closes the file: another has been put in its place, or will be.
    pub fn close(&mut self) {
        self.open = None;
    }

    fn open(&mut self) -> Result<&mut Open> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                file::make_folder(&self.path)?;
                let io = |error| Error::io(&self.path, "write", error);
                let mut file =
                    OpenOptions::new().create(true).truncate(false).write(true).open(&self.path).map_err(io)?;
                let length = file.seek(SeekFrom::End(0)).map_err(io)?;
                Open { file, length }
            }
        };
        Ok(self.open.insert(open))
    }
}
