//! Ranks that are threads of one process: several devices of one machine without MPI, and tests.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use super::communicator::{Communicator, Outgoing, Parcel, is_over};
use crate::clock::Instant;
use crate::error::{Error, Result};

/// What the ranks share.
struct Post {
    /// From each rank to each: what has not been taken.
    boxes: Mutex<Vec<VecDeque<Parcel>>>,
    arrived: Condvar,
    size: usize,
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Vec<VecDeque<Parcel>>> {
        self.boxes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One of the ranks.
pub(super) struct Thread {
    post: Arc<Post>,
    rank: usize,
}

impl Thread {
    /// So many.
    pub fn all(size: usize) -> Vec<Thread> {
        let boxes = Mutex::new(vec![VecDeque::new(); size * size]);
        let post = Arc::new(Post { boxes, arrived: Condvar::new(), size });
        (0..size).map(|rank| Thread { post: post.clone(), rank }).collect()
    }
}

impl Communicator for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.post.size
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn exchange(&self, out: Outgoing, longest: Duration) -> Result<Vec<Option<Parcel>>> {
        let kind = out.kind;
        self.last_words(out);
        let (began, size) = (Instant::now(), self.post.size);
        let mut arrived: Vec<Option<Parcel>> = vec![None; size];
        let mut boxes = self.post.lock();
        loop {
            for (from, place) in arrived.iter_mut().enumerate().filter(|(_, place)| place.is_none()) {
                *place = boxes.get_mut(from * size + self.rank).and_then(VecDeque::pop_front);
            }
            let missing = (0..size).find(|&rank| rank != self.rank && arrived[rank].is_none());
            let Some(missing) = missing.filter(|_| !is_over(kind, &arrived)) else { return Ok(arrived) };
            let left = longest.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(Error::no_answer(missing, longest));
            }
            let waited = self.post.arrived.wait_timeout(boxes, left);
            boxes = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
    }

    fn last_words(&self, Outgoing { kind, number, bytes }: Outgoing) {
        let mut boxes = self.post.lock();
        for (to, bytes) in bytes.into_iter().enumerate().filter(|(to, _)| *to != self.rank) {
            let parcel = Parcel { kind, number, bytes: Arc::unwrap_or_clone(bytes) };
            if let Some(own) = boxes.get_mut(self.rank * self.post.size + to) {
                own.push_back(parcel);
            }
        }
        self.post.arrived.notify_all();
    }

    fn finish(&self) {}
}

/// For tests: what each of so many ranks gives back.
#[cfg(test)]
pub(super) fn on_ranks<T: Send>(size: usize, run: impl Fn(super::World) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let worlds = super::World::threads(size).into_iter();
        let ranks: Vec<_> = worlds.map(|world| scope.spawn(|| run(world))).collect();
        ranks.into_iter().map(|rank| rank.join().expect("a rank's own panic has been printed")).collect()
    })
}
