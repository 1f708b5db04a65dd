//! Chrome's compiler of WGSL, where it is on the PATH: browsers refuse what naga lets pass, such as a barrier in control flow
//! that is not uniform.
#![allow(dead_code)]

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

fn tint(text: &str) -> std::io::Result<Result<(), String>> {
    let mut command = Command::new("tint");
    command.args(["--input-format", "wgsl", "--format", "wgsl", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    // Where it stops reading, its words and its status say why.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    let ended = child.wait_with_output()?;
    Ok(if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) })
}

/// Holds texts, each with the name of its kernel, to the compiler, on all cores: a process a text takes milliseconds.
///
/// # Panics
/// With what it refuses.
pub fn browsers_take(texts: &[(String, String)]) {
    match tint("") {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Not by a macro, whose words a test that passes keeps to itself.
            let words = "portability: NOT checked: tint (Chrome's compiler of WGSL) is not on the PATH\n";
            let _ = std::io::stderr().write_all(words.as_bytes());
            return;
        }
        Err(error) => panic!("tint does not start: {error}"),
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut refused = vec![];
        while let Some((name, text)) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(why) = tint(text).expect("tint starts") {
                refused.push(format!("{name}: {why}"));
            }
        }
        refused
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let refused: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a thread's findings")).collect()
    });
    assert!(refused.is_empty(), "browsers refuse {} of {} texts:\n{}", refused.len(), texts.len(), refused.join("\n"));
}
