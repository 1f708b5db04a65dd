//! Work on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// `make` of each item, on as many threads as there are cores, this one among them.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get).min(items.len());
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = vec![];
        while let Some((i, item)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?))) {
            done.push((i, make(item)));
        }
        done
    };
    let mut all = std::thread::scope(|scope| {
        // Where the system gives no thread, the others do its work.
        let spawn = |_| std::thread::Builder::new().name("kiln compile".into()).spawn_scoped(scope, run).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut all = run();
        for other in others {
            match other.join() {
                Ok(part) => all.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}
