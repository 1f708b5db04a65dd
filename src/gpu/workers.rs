//! A core of its own for each worker thread of a software driver.
//!
//! llvmpipe cuts a dispatch into equal parts, one a thread, and Linux tends to wake two of these on one core
//! (`docs/software-drivers.md`, "worker threads"). `KILN_AFFINITY=off` leaves the threads where the system puts them.

/// How often threads that have just been started are looked at, and the pause between.
#[cfg(target_os = "linux")]
const TRIES: usize = 20;
#[cfg(target_os = "linux")]
const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// The threads of this process, if the system tells.
pub(super) struct Threads(#[cfg(target_os = "linux")] Vec<(i32, String)>);

#[cfg(not(target_os = "linux"))]
impl Threads {
    pub fn now() -> Threads {
        Threads()
    }

    pub fn spread_new(&self) {}
}

#[cfg(target_os = "linux")]
impl Threads {
    /// Those that there are, by number.
    pub fn now() -> Threads {
        let folders = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let mut threads: Vec<(i32, String)> = folders
            .filter_map(|folder| {
                let name = std::fs::read_to_string(folder.path().join("comm")).ok()?;
                Some((folder.file_name().to_str()?.parse().ok()?, name.trim_end().to_string()))
            })
            .collect();
        threads.sort_unstable();
        Threads(threads)
    }

    /// Gives each worker among the threads that have come since a core. Leaves all as they are if they are not what is
    /// expected: another driver, threads that the program started meanwhile, fewer cores than workers.
    pub fn spread_new(&self) {
        use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
        let Ok(allowed) = sched_getaffinity(None) else { return };
        let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect();
        // Threads name themselves, once they run: on a busy machine that takes a while.
        let mut found = vec![];
        for _ in 0..TRIES {
            let mut all = Threads::now().0;
            all.retain(|(number, _)| self.0.iter().all(|(old, _)| old != number));
            found = workers(&all, cores.len());
            if !found.is_empty() || all.len() < cores.len() || cores.len() == 1 {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        for (&thread, core) in found.iter().zip(cores) {
            let mut only = CpuSet::new();
            only.set(core);
            if let Some(thread) = Pid::from_raw(thread) {
                // A system that does not allow it costs speed alone.
                let _ = sched_setaffinity(Some(thread), &only);
            }
        }
    }
}

/// The worker threads among new ones, which are in the order in which they came: those without a name of their own after as
/// many `llvmpipe-N`, which draw and are never used here.
#[cfg(target_os = "linux")]
fn workers(new: &[(i32, String)], cores: usize) -> Vec<i32> {
    let drawing = |(_, name): &&(i32, String)| name.starts_with("llvmpipe-");
    let Some(last) = new.iter().rposition(|thread| drawing(&thread)) else { return vec![] };
    let first = last + 1 - new.iter().filter(drawing).count().min(last + 1);
    let named = new[first..=last].iter().enumerate().all(|(i, (_, name))| *name == format!("llvmpipe-{i}"));
    let workers: Vec<i32> =
        new[last + 1..].iter().filter(|(_, name)| !name.contains("disk$")).map(|&(number, _)| number).collect();
    if named && last + 1 - first == cores && workers.len() == cores && cores > 1 { workers } else { vec![] }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn threads(names: &[&str]) -> Vec<(i32, String)> {
        (40..).zip(names).map(|(number, name)| (number, name.to_string())).collect()
    }

    #[test]
    fn only_what_is_surely_a_worker_is_moved() {
        let usual = ["program", "llvmpipe-0", "llvmpipe-1", "program", "program", "program:disk$0"];
        assert_eq!(workers(&threads(&usual), 2), [43, 44]);
        assert_eq!(workers(&threads(&usual), 4), [0; 0], "cores that the driver did not count");
        assert_eq!(workers(&threads(&["program", "program"]), 2), [0; 0], "another driver");
        let more = ["llvmpipe-0", "llvmpipe-1", "program", "program", "loader"];
        assert_eq!(workers(&threads(&more), 2), [0; 0], "a thread of the program");
        let two = ["llvmpipe-0", "llvmpipe-1", "program", "llvmpipe-0", "llvmpipe-1", "program"];
        assert_eq!(workers(&threads(&two), 2), [0; 0], "two devices at once");
    }
}
