//! Tests that run in a process of their own, and folders that go away with them.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A fresh directory for one test, which goes away with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(test: &str) -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("kiln-files-{}-{number}-{test}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names of all files but `known`.
    pub fn others(&self, known: &[&str]) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !known.contains(&name.as_str())).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Set in a child process to the folder that it works in.
const INSIDE: &str = "KILN_TEST_FILES";

/// A child process that runs `test` alone; in it [`inside`] gives `folder`.
pub fn child(test: &str, folder: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env(INSIDE, folder);
    child
}

pub fn inside() -> Option<PathBuf> {
    std::env::var_os(INSIDE).map(PathBuf::from)
}

/// Runs `test` in a child process, which must pass.
pub fn pass_alone(test: &str, folder: &Path) {
    let output = child(test, folder).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{test} is not the name of this test: {out}");
    for line in out.lines().filter(|line| line.starts_with("measured")) {
        println!("{line}");
    }
}
