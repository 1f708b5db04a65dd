//! All that happens in a study, line by line: in memory, and in a file if it has one.
//!
//! A line is a JSON object. The first says what is searched; each other one that a trial has begun, reported, noted or
//! ended. Lines are appended under a lock on the file, so that several processes may work on one study; each reads what
//! the others wrote before it writes. A line that a kill cut short has no line feed behind it: the next process that
//! takes the lock cuts it off.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::event::{apply, parse};
use super::record::Record;
use super::space::Space;
use super::worker::Worker;
use crate::error::{Error, Result};

/// The version of the file's form.
const VERSION: u64 = 1;
/// Says that a file is a study, and of which version.
const MARK: &str = "kiln_study";

/// The trials of a study, and the file that has them.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) records: Vec<Record>,
    pub(super) stored: Option<Stored>,
}

/// The file of a study.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) path: PathBuf,
    file: File,
    /// Its first line: what is searched, to what end.
    first: Json,
    /// Bytes that have been read: whole lines.
    offset: u64,
    /// Once it runs trials.
    worker: Option<Worker>,
}

impl Journal {
    /// One that is gone with the program.
    pub(super) fn in_memory() -> Journal {
        Journal { records: vec![], stored: None }
    }

    /// That of the file at `path`, which is made if there is none.
    pub(super) fn open(path: &Path, space: &Space, header: &Json) -> Result<Journal> {
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open.map_err(|error| Error::io(path, "open", error))?;
        let first = header.clone();
        let stored = Stored { path: path.into(), file, first, offset: 0, worker: None };
        let mut journal = Journal { records: vec![], stored: Some(stored) };
        journal.locked(space, |journal| match &mut journal.stored {
            // A first line that was cut short counts as none. The mark comes first in it, so that its beginning is known.
            Some(stored) if stored.offset == 0 => {
                let first = stored.first.to_string();
                stored.write(&format!("{{\"{MARK}\":{VERSION},{}\n", first.trim_start_matches('{')))
            }
            _ => Ok(()),
        })?;
        Ok(journal)
    }

    /// Runs `work` while no other process reads or writes the file, on what all of them have written.
    pub(super) fn locked<T>(&mut self, space: &Space, work: impl FnOnce(&mut Journal) -> Result<T>) -> Result<T> {
        let Some(stored) = &self.stored else { return work(self) };
        stored.file.lock().map_err(|error| Error::io(&stored.path, "lock", error))?;
        let result = self.read(space).and_then(|()| work(self));
        let Some(stored) = &self.stored else { return result };
        let unlocked = stored.file.unlock().map_err(|error| Error::io(&stored.path, "unlock", error));
        result.and_then(|done| unlocked.map(|()| done))
    }

    /// Reads what has been appended; cuts off a line that was cut short.
    fn read(&mut self, space: &Space) -> Result<()> {
        let Some(stored) = &mut self.stored else { return Ok(()) };
        let Stored { path, file, first, offset, .. } = stored;
        let length = file.metadata().map_err(|error| Error::io(&*path, "read", error))?.len();
        if length < *offset {
            return Err(damaged(path, length, "the file is shorter than it was".into()));
        }
        let text = read(path, file, *offset, length)?;
        let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        for line in text[..whole].split_inclusive(|&byte| byte == b'\n') {
            let event = parse(&line[..line.len() - 1]).map_err(|what| damaged(path, *offset, what))?;
            match *offset {
                0 => compare(path, &event, first)?,
                _ => apply(&mut self.records, space, &event).map_err(|what| damaged(path, *offset, what))?,
            }
            *offset += line.len() as u64;
        }
        // Once it is known that the file is a study.
        if whole < text.len() && (*offset > 0 || is_cut(&text)) {
            file.set_len(*offset).map_err(|error| Error::io(&*path, "write", error))?;
        } else if whole < text.len() {
            return Err(damaged(path, 0, "it is no study".into()));
        }
        Ok(())
    }

    /// Appends a line, and counts it here; under the lock.
    pub(super) fn append(&mut self, space: &Space, event: &Json) -> Result<()> {
        if let Some(stored) = &mut self.stored {
            stored.write(&format!("{event}\n"))?;
        }
        apply(&mut self.records, space, event).map_err(Error::internal)
    }

    /// The name under which this process runs trials; none where they are in memory.
    pub(super) fn worker(&mut self) -> Result<Option<&str>> {
        let Some(stored) = &mut self.stored else { return Ok(None) };
        if stored.worker.is_none() {
            stored.worker = Some(Worker::new(&stored.path)?);
        }
        Ok(stored.worker.as_ref().map(|worker| worker.name.as_str()))
    }
}

impl Stored {
    /// The name under which this process has run trials.
    pub(super) fn worker_name(&self) -> Option<&str> {
        self.worker.as_ref().map(|worker| worker.name.as_str())
    }

    /// Appends lines in one call, so that a kill cuts at most one short.
    fn write(&mut self, lines: &str) -> Result<()> {
        let io = |error| Error::io(&self.path, "write", error);
        self.file.seek(SeekFrom::Start(self.offset)).map_err(io)?;
        self.file.write_all(lines.as_bytes()).map_err(io)?;
        self.offset += lines.len() as u64;
        Ok(())
    }
}

fn read(path: &Path, mut file: &File, from: u64, to: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io(path, "read", error);
    let mut text = vec![];
    file.seek(SeekFrom::Start(from)).map_err(io)?;
    file.take(to - from).read_to_end(&mut text).map_err(io)?;
    Ok(text)
}

fn damaged(path: &Path, offset: u64, what: String) -> Error {
    Error::File { path: path.into(), offset, what, next: "restore the file, or begin another study" }
}

/// What the first line of a file says beside its version.
pub(super) fn header(space: &Space, goal: &str, seed: u64) -> Json {
    json!({ "space": space.json(), "goal": goal, "seed": seed })
}

/// Whether the first line of a file is that of this study.
fn compare(path: &Path, found: &Json, own: &Json) -> Result<()> {
    if found.get(MARK).is_none() {
        return Err(damaged(path, 0, format!("it is no study: its first line has no `{MARK}`")));
    }
    let wrong = |what: String, next| Err(Error::Checkpoint { path: path.into(), what, next });
    if found[MARK] != VERSION {
        let what = format!("a study of version {}, this program reads version {VERSION}", found[MARK]);
        return wrong(what, "use the program that wrote it");
    }
    for (name, own) in own.as_object().into_iter().flatten() {
        let there = &found[name];
        if own != there {
            let what = format!("its {name} is {there}, that of this program is {own}");
            return wrong(what, "choose another file, or what the file was begun with");
        }
    }
    Ok(())
}

/// Whether a text without a line feed is the beginning of a study.
fn is_cut(text: &[u8]) -> bool {
    let mark = format!("{{\"{MARK}\"");
    text.starts_with(mark.as_bytes()) || mark.as_bytes().starts_with(text)
}
