//! The ranks of a run, and what they do together.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::communicator::{Communicator, Kind, Outgoing, Parcel};
use super::options::Options;
use super::threads::Thread;
use crate::error::{Error, Result};

/// Bytes of a failing rank's message at most.
const WORDS: usize = 4096;
/// What the others leave a rank that ends to say why, before their own errors end them.
const GRACE: Duration = Duration::from_secs(1);

/// How a world is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// How long a rank waits for another before that is an error. A save, a validation or a slow device of one rank must
    /// fit into it. 10 minutes by default.
    pub longest: Duration,
    /// Bytes of a message over MPI at most; longer ones are sent in pieces. 2^30 by default, 2^31 - 1 is the most that MPI
    /// counts.
    pub piece: usize,
}

impl Default for Start {
    fn default() -> Start {
        Start { longest: Duration::from_secs(600), piece: 1 << 30 }
    }
}

/// What a rank has moved since the world was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// Bytes of gradients read from the device.
    pub read: u64,
    /// Bytes sent to other ranks.
    pub sent: u64,
    /// Bytes of gradients written to the device.
    pub written: u64,
    /// Exchanges with the other ranks.
    pub exchanges: u64,
}

/// The ranks of a run: copies of a program, each with a device of its own, that train one model together.
///
/// Cloning copies the handle. When the last handle is dropped the rank waits for the others to come to their end, too.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    /// None for a rank that is alone.
    ways: Option<Box<dyn Communicator>>,
    longest: Duration,
    /// Exchanges so far. Locked during one: there is one at a time.
    number: Mutex<u64>,
    /// Why there can be no further exchange.
    broken: Mutex<Option<Error>>,
    /// What this rank wants the run to do, and what the ranks have agreed on; bits with a meaning to the trainer.
    wishes: AtomicU32,
    agreed: AtomicU32,
    options: Options,
    counts: [AtomicU64; 4],
}

impl World {
    /// A world of one rank: everything is as without.
    pub fn alone() -> World {
        World::of(None, Start::default())
    }

    /// The ranks that `mpirun`, `mpiexec` or `srun` has started; a program that was started by itself is alone, and then
    /// MPI is not even started.
    ///
    /// # Errors
    /// [`Error::Rank`] without the feature `mpi` where there are several ranks, if MPI cannot be started as this takes it, or if it
    /// has another number of ranks than were started: then it is another MPI than the launcher's.
    pub fn start() -> Result<World> {
        World::start_with(Start::default())
    }

    /// [`World::start`] with other settings.
    ///
    /// # Errors
    /// As [`World::start`]; [`Error::Rank`] for a piece of 0 bytes, or of more than MPI counts.
    pub fn start_with(start: Start) -> Result<World> {
        if start.piece == 0 || i32::try_from(start.piece).is_err() {
            let what = format!("messages in pieces of {} bytes", start.piece);
            return Err(Error::Rank { rank: launched_rank(), what, next: "pass 1 to 2^31 - 1" });
        }
        match launched(|name| std::env::var(name).ok()) {
            Some(launched) if launched.size > 1 => start_mpi(launched, start),
            _ => Ok(World::of(None, start)),
        }
    }

    /// Ranks that are threads of this process, such as one for each of a machine's devices. Give each thread one.
    ///
    /// ```
    /// use kiln::distributed::World;
    ///
    /// let start = |world: World| std::thread::spawn(move || world.gather(&[world.rank() as f64]));
    /// let ranks: Vec<_> = World::threads(2).into_iter().map(start).collect();
    /// for rank in ranks {
    ///     assert_eq!(rank.join().unwrap()?, [[0.0], [1.0]]);
    /// }
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn threads(size: usize) -> Vec<World> {
        World::threads_with(size, Start::default())
    }

    /// [`World::threads`] with other settings.
    pub fn threads_with(size: usize, start: Start) -> Vec<World> {
        Thread::all(size).into_iter().map(|thread| World::over(Box::new(thread), start)).collect()
    }

    /// Ranks over a way of your own to carry messages. In a browser every world is of one rank.
    pub fn over(ways: Box<dyn Communicator>, start: Start) -> World {
        World::of(Some(ways).filter(|ways| ways.size() > 1 && cfg!(not(target_family = "wasm"))), start)
    }

    fn of(ways: Option<Box<dyn Communicator>>, start: Start) -> World {
        World(Arc::new(Inner {
            ways,
            longest: start.longest,
            number: Mutex::new(0),
            broken: Mutex::new(None),
            wishes: AtomicU32::new(0),
            agreed: AtomicU32::new(0),
            options: Options::default(),
            counts: Default::default(),
        }))
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.ways.as_ref().map_or(0, |ways| ways.rank())
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        if self.is_alone() { 1 } else { self.0.ways.as_ref().map_or(1, |ways| ways.size()) }
    }

    /// The number of this rank among those of its machine.
    pub fn local_rank(&self) -> usize {
        self.0.ways.as_ref().map_or(0, |ways| ways.local_rank())
    }

    /// True for rank 0: the one that prints and saves.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// True if there are no others.
    pub fn is_alone(&self) -> bool {
        // Known when a page is compiled, so that it carries nothing of several ranks.
        cfg!(target_family = "wasm") || self.0.ways.is_none()
    }

    pub(super) fn options(&self) -> &Options {
        &self.0.options
    }

    /// What this rank has moved so far.
    pub fn traffic(&self) -> Traffic {
        let [read, sent, written, exchanges] = [0, 1, 2, 3].map(|i| self.0.counts[i].load(Ordering::Relaxed));
        Traffic { read, sent, written, exchanges }
    }

    pub(crate) fn count_read(&self, bytes: u64) {
        self.0.counts[0].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_written(&self, bytes: u64) {
        self.0.counts[2].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes what this rank wants at its next step: bits.
    pub(crate) fn wish(&self, bits: u32) {
        self.0.wishes.store(bits, Ordering::Relaxed);
    }

    pub(crate) fn wishes(&self) -> u32 {
        self.0.wishes.load(Ordering::Relaxed)
    }

    /// Notes what the ranks want, all together.
    pub(crate) fn agree_on(&self, bits: u32) {
        self.0.agreed.store(bits, Ordering::Relaxed);
    }

    /// What some rank has wanted at the last step, and all know of.
    pub(crate) fn agreed(&self) -> u32 {
        self.0.agreed.load(Ordering::Relaxed)
    }

    /// Forgets what was wanted, before another fit.
    pub(crate) fn forget_wishes(&self) {
        self.0.wishes.store(0, Ordering::Relaxed);
        self.0.agreed.store(0, Ordering::Relaxed);
    }

    /// Waits until all ranks have come to this call.
    ///
    /// # Errors
    /// [`Error::Rank`]: what another rank has met, or that one does not answer.
    pub fn barrier(&self) -> Result<()> {
        self.exchange(Kind::Barrier, vec![]).map(drop)
    }

    /// The numbers of all ranks, in their order.
    ///
    /// # Errors
    /// As [`World::barrier`].
    pub fn gather(&self, numbers: &[f64]) -> Result<Vec<Vec<f64>>> {
        let all = self.gather_bytes(bytemuck::cast_slice(numbers).to_vec())?;
        Ok(all.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect())
    }

    pub(crate) fn gather_bytes(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let own = Arc::new(own);
        let mut all = self.exchange(Kind::Gather, vec![own.clone(); self.size()])?;
        if let Some(place) = all.get_mut(self.rank()) {
            *place = Arc::unwrap_or_clone(own);
        }
        Ok(all)
    }

    /// Rank 0's bytes, on every rank.
    ///
    /// # Errors
    /// As [`World::barrier`].
    pub fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if self.is_first() {
            let own = Arc::new(bytes);
            self.exchange(Kind::Broadcast, vec![own.clone(); self.size()])?;
            return Ok(Arc::unwrap_or_clone(own));
        }
        Ok(self.exchange(Kind::Broadcast, vec![])?.swap_remove(0))
    }

    /// Makes sure that all ranks have these settings, names and values.
    ///
    /// # Errors
    /// [`Error::Rank`] with the first that differs, and whose it is; else as [`World::barrier`].
    pub fn agree(&self, settings: &[(String, String)]) -> Result<()> {
        let bytes = serde_json::to_vec(settings).map_err(|error| Error::internal(error.to_string()))?;
        let own = Arc::new(bytes);
        let mut all = self.exchange(Kind::Agree, vec![own.clone(); self.size()])?;
        if let Some(place) = all.get_mut(self.rank()) {
            *place = own.to_vec();
        }
        let mut read: Vec<Vec<(String, String)>> = vec![];
        for (rank, bytes) in all.iter().enumerate() {
            let parsed = serde_json::from_slice(bytes);
            let next = "run the same program on all of them";
            read.push(parsed.map_err(|error| Error::Rank { rank, what: format!("its settings: {error}"), next })?);
        }
        let Some((first, others)) = read.split_first() else { return Ok(()) };
        for at in 0..read.iter().map(Vec::len).max().unwrap_or(0) {
            if let Some((rank, other)) = others.iter().enumerate().find(|(_, other)| other.get(at) != first.get(at)) {
                let text = |side: Option<&(String, String)>| match side {
                    Some((name, value)) => format!("{name} {value}"),
                    None => "nothing more".into(),
                };
                let what = format!("it has {}, where rank 0 has {}", text(other.get(at)), text(first.get(at)));
                let next = "start all ranks with the same program, settings and data";
                return Err(self.breaks(Error::Rank { rank: rank + 1, what, next }));
            }
        }
        Ok(())
    }

    /// Tells the other ranks why this one cannot go on; their next exchange is an error with these words.
    pub fn fail(&self, error: &Error) {
        if self.is_alone() {
            return;
        }
        let Some(ways) = &self.0.ways else { return };
        // Held until it has been said and noted: nothing of another thread comes between, or behind.
        let number = lock(&self.0.number);
        // What has ended the exchanges is known to all, or will be told by whoever met it.
        if lock(&self.0.broken).is_some() {
            return;
        }
        let words = error.to_string();
        let end = (0..=WORDS.min(words.len())).rev().find(|&end| words.is_char_boundary(end)).unwrap_or(0);
        let bytes = Arc::new(words.as_bytes().get(..end).unwrap_or_default().to_vec());
        ways.last_words(Outgoing { kind: Kind::Failed, number: *number, bytes: vec![bytes; ways.size()] });
        self.breaks(error.clone());
    }

    /// Notes that there is no further exchange.
    pub(super) fn breaks(&self, error: Error) -> Error {
        lock(&self.0.broken).get_or_insert(error).clone()
    }

    /// Sends each other rank its bytes (none for no place), and gives what each has sent.
    pub(crate) fn exchange(&self, kind: Kind, mut bytes: Vec<Arc<Vec<u8>>>) -> Result<Vec<Vec<u8>>> {
        let size = self.size();
        bytes.resize(size, Arc::default());
        let Some(ways) = &self.0.ways else { return Ok(vec![vec![]]) };
        let mut number = lock(&self.0.number);
        if let Some(error) = &*lock(&self.0.broken) {
            return Err(error.clone());
        }
        let rank = ways.rank();
        let sent: u64 = bytes.iter().enumerate().filter(|(to, _)| *to != rank).map(|(_, own)| own.len() as u64).sum();
        let arrived = ways
            .exchange(Outgoing { kind, number: *number, bytes }, self.0.longest)
            .and_then(|arrived| self.checked(kind, *number, arrived));
        *number += 1;
        self.0.counts[1].fetch_add(sent, Ordering::Relaxed);
        self.0.counts[3].fetch_add(1, Ordering::Relaxed);
        arrived.map_err(|error| self.breaks(error))
    }

    /// What has arrived, if all ranks are at the same.
    fn checked(&self, kind: Kind, number: u64, arrived: Vec<Option<Parcel>>) -> Result<Vec<Vec<u8>>> {
        let failed = |parcel: &Parcel| parcel.kind == Kind::Failed;
        for (rank, parcel) in arrived.iter().enumerate() {
            if let Some(parcel) = parcel.as_ref().filter(|parcel| failed(parcel)) {
                let what = String::from_utf8_lossy(&parcel.bytes).into_owned();
                return Err(Error::Rank { rank, what, next: "it has ended this run: see there" });
            }
        }
        for (rank, parcel) in arrived.iter().enumerate() {
            let Some(parcel) = parcel.as_ref().filter(|parcel| (parcel.kind, parcel.number) != (kind, number)) else {
                continue;
            };
            let (theirs, own) = (parcel.kind.doing(), kind.doing());
            if parcel.kind.is_last() {
                // What it says by itself comes first.
                std::thread::sleep(GRACE);
                let what = format!("it has come to its end while rank {} was {own}", self.rank());
                return Err(Error::Rank { rank, what, next: "see what it said" });
            }
            let what = format!(
                "it was {theirs} (exchange {}) while rank {} was {own} (exchange {number})",
                parcel.number,
                self.rank()
            );
            let next = "let all ranks do the same steps in the same order";
            return Err(Error::Rank { rank, what, next });
        }
        let own = self.rank();
        let take = |(rank, parcel): (usize, Option<Parcel>)| match parcel {
            Some(parcel) => Ok(parcel.bytes),
            None if rank == own => Ok(vec![]),
            None => Err(Error::internal("a rank that did not answer")),
        };
        arrived.into_iter().enumerate().map(take).collect()
    }
}

impl Drop for Inner {
    /// The end of this rank: well, if all others have come to theirs. Otherwise MPI is not ended, by which its launcher knows
    /// that the run has failed, and ends the others.
    fn drop(&mut self) {
        let Some(ways) = &self.ways else { return };
        if lock(&self.broken).is_some() {
            return;
        }
        let number = *lock(&self.number);
        let of = |kind, words: &str| {
            let bytes = Arc::new(words.as_bytes().to_vec());
            Outgoing { kind, number, bytes: vec![bytes; ways.size()] }
        };
        if std::thread::panicking() {
            ways.last_words(of(Kind::Failed, "it panicked"));
            return;
        }
        let arrived = ways.exchange(of(Kind::Leaves, ""), self.longest).unwrap_or_default();
        let has_left = |(rank, parcel): (usize, &Option<Parcel>)| {
            rank == ways.rank() || parcel.as_ref().is_some_and(|parcel| parcel.kind == Kind::Leaves)
        };
        if !arrived.is_empty() && arrived.iter().enumerate().all(has_left) {
            ways.finish();
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of {}", self.rank(), self.size())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// What a launcher says of the rank that it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Launched {
    pub rank: usize,
    pub size: usize,
}

/// What the launcher says, by its variables; `None` without one. Open MPI, MPICH and its kin, and Slurm say it.
fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.parse::<usize>().ok();
    let of = |rank: &str, size: &str| Some(Launched { rank: number(rank).unwrap_or(0), size: number(size)? });
    // Tasks of a step that `srun --mpi` has started. A batch script has the number too, and is no rank.
    let slurm = || {
        let rank = number("PMIX_RANK").or_else(|| number("PMI_RANK"))?;
        Some(Launched { rank, size: number("SLURM_STEP_NUM_TASKS")? })
    };
    of("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE").or_else(|| of("PMI_RANK", "PMI_SIZE")).or_else(slurm)
}

/// The number of this rank as its launcher says it, for what goes wrong before there is a world.
pub(super) fn launched_rank() -> usize {
    launched(|name| std::env::var(name).ok()).map_or(0, |launched| launched.rank)
}

/// Makes sure that MPI has found the ranks that were started: the library of another MPI finds one, and each would train by itself.
#[cfg(any(feature = "mpi", test))]
fn check_size(launched: Launched, found: usize) -> Result<()> {
    if launched.size == found {
        return Ok(());
    }
    let what = format!("it was started as one of {}, and MPI has {found}", launched.size);
    let next = "start it with the launcher of the MPI that it was built with";
    Err(Error::Rank { rank: launched.rank, what, next })
}

#[cfg(feature = "mpi")]
fn start_mpi(launched: Launched, start: Start) -> Result<World> {
    let ways = super::mpi::Mpi::start(start.piece)?;
    check_size(launched, ways.size())?;
    Ok(World::over(Box::new(ways), start))
}

#[cfg(not(feature = "mpi"))]
fn start_mpi(launched: Launched, _: Start) -> Result<World> {
    let what = format!("it was started as one of {}, and built without the feature `mpi`", launched.size);
    let next = "build it with `--features mpi`, or start it by itself";
    Err(Error::Rank { rank: launched.rank, what, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_says_who_a_rank_is_and_another_size_of_mpi_is_refused() {
        let of = |variables: &[(&str, &str)]| {
            launched(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_string()))
        };
        let third = Some(Launched { rank: 2, size: 4 });
        assert_eq!(of(&[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "4")]), third);
        assert_eq!(of(&[("PMI_RANK", "2"), ("PMI_SIZE", "4")]), third);
        assert_eq!(of(&[("PMIX_RANK", "2"), ("SLURM_STEP_NUM_TASKS", "4")]), third);
        // A batch script is no rank.
        assert_eq!(of(&[("SLURM_STEP_NUM_TASKS", "4")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_SIZE", "many")]), None);
        let launched = Launched { rank: 2, size: 4 };
        check_size(launched, 4).unwrap();
        let error = check_size(launched, 1).unwrap_err().to_string();
        assert!(error.starts_with("rank 2: it was started as one of 4, and MPI has 1"), "{error}");
    }
}
