//! Ranks over MPI: messages between pairs, sent and received without blocking, so that a rank that does not answer is an
//! error and no silence.
//!
//! A message is a header (kind, number, length) and its bytes in pieces, for MPI counts by an `int`.

use std::ffi::c_int;
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mpi::environment::Universe;
use mpi::ffi;

use super::communicator::{Communicator, Kind, Outgoing, Parcel, is_over};
use super::world::launched_rank;
use crate::clock::Instant;
use crate::error::{Error, Result};

const HEADER: c_int = 1;
const PIECE: c_int = 2;
/// Looks at requests before the thread begins to nap between two of them.
const EAGER: u32 = 2_000;
const NAP: Duration = Duration::from_micros(50);
/// How long a rank that fails tries to say so.
const LAST: Duration = Duration::from_secs(2);

/// Words of a header: kind, number, length.
const WORDS: usize = 3;

/// MPI, started.
pub(super) struct Mpi {
    universe: Mutex<Option<ManuallyDrop<Universe>>>,
    comm: Handle,
    rank: usize,
    size: usize,
    local: usize,
    piece: usize,
}

/// A communicator's handle. Calls are made by one thread at a time, which is what MPI was asked to allow.
struct Handle(ffi::MPI_Comm);

// SAFETY: a handle is a name, which MPI takes on any thread at the level `Serialized`; `World` lets one thread in at a time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// What MPI says went wrong, if it did.
fn checked(rank: usize, what: &str, code: c_int) -> Result<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let next = "look at the network, and at what MPI prints";
    Err(Error::Rank { rank, what: format!("MPI's {what} failed with code {code}"), next })
}

/// Messages under way. MPI works on their memory until they are done: one that is not is never freed.
#[derive(Default)]
struct Flying {
    requests: Vec<Request>,
}

struct Request {
    peer: usize,
    raw: ffi::MPI_Request,
    is_done: bool,
    /// What is sent, or room for what arrives.
    _memory: Memory,
}

enum Memory {
    /// A message, which all of its pieces keep: it is sent from there, or arrives there.
    Message(#[allow(dead_code, reason = "it is kept, not looked at")] Arc<Vec<u8>>),
    Header(Vec<u64>),
}

impl Flying {
    /// Looks whether these are done.
    fn poll(&mut self) -> Result<()> {
        for request in self.requests.iter_mut().filter(|request| !request.is_done) {
            let mut flag: c_int = 0;
            // SAFETY: the request was made by MPI and is not done; the status is not wanted.
            let code = unsafe { ffi::MPI_Test(&mut request.raw, &mut flag, ffi::RSMPI_STATUS_IGNORE) };
            request.is_done = flag != 0;
            checked(request.peer, "transfer", code)?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.requests.iter().all(|request| request.is_done)
    }
}

impl Drop for Flying {
    fn drop(&mut self) {
        let left: Vec<Request> = self.requests.drain(..).filter(|request| !request.is_done).collect();
        // MPI may still write to it, or read it.
        std::mem::forget(left);
    }
}

/// A message that arrives.
struct Arriving {
    peer: usize,
    header: Flying,
    /// Room for its bytes, once their number is known, and their receiving, which keeps that room.
    pieces: Option<(Arc<Vec<u8>>, Flying)>,
    is_taken: bool,
}

impl Mpi {
    /// Starts MPI.
    pub fn start(piece: usize) -> Result<Mpi> {
        let own = launched_rank();
        let problem = |what: &str, next| Error::Rank { rank: own, what: what.into(), next };
        let started = mpi::initialize_with_threading(mpi::Threading::Serialized);
        let (universe, level) = started.ok_or_else(|| {
            problem("MPI has been started already", "start one world a process, and clone its handle")
        })?;
        let universe = ManuallyDrop::new(universe);
        let (mut comm, mut near) = unsafe { (ffi::RSMPI_COMM_WORLD, ffi::RSMPI_COMM_WORLD) };
        let (mut rank, mut size, mut local): (c_int, c_int, c_int) = (0, 0, 0);
        // SAFETY: MPI has been started; all places are there for it to write to.
        unsafe {
            checked(own, "MPI_Comm_dup", ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut comm))?;
            checked(own, "MPI_Comm_rank", ffi::MPI_Comm_rank(comm, &mut rank))?;
            checked(own, "MPI_Comm_size", ffi::MPI_Comm_size(comm, &mut size))?;
            let returned = ffi::RSMPI_ERRORS_RETURN;
            checked(own, "MPI_Comm_set_errhandler", ffi::MPI_Comm_set_errhandler(comm, returned))?;
            let kind = ffi::RSMPI_COMM_TYPE_SHARED;
            let info = ffi::RSMPI_INFO_NULL;
            checked(own, "MPI_Comm_split_type", ffi::MPI_Comm_split_type(comm, kind, rank, info, &mut near))?;
            checked(own, "MPI_Comm_rank", ffi::MPI_Comm_rank(near, &mut local))?;
        }
        if !matches!(level, mpi::Threading::Serialized | mpi::Threading::Multiple) {
            let what = format!("this MPI gives threads the level {level:?}, and `Serialized` is wanted");
            return Err(problem(&what, "take an MPI built with support for threads"));
        }
        let [rank, size, local] = [rank, size, local].map(|number| usize::try_from(number).unwrap_or(0));
        Ok(Mpi { universe: Mutex::new(Some(universe)), comm: Handle(comm), rank, size, local, piece })
    }

    fn send(&self, peer: usize, tag: c_int, memory: Memory, bytes: *const u8, length: usize) -> Result<Request> {
        let mut raw = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: `bytes` is memory of `memory`, which outlives the request.
        let code = unsafe {
            let (length, kind) = (length as c_int, ffi::RSMPI_UINT8_T);
            ffi::MPI_Isend(bytes.cast(), length, kind, peer as c_int, tag, self.comm.0, &mut raw)
        };
        checked(peer, "MPI_Isend", code)?;
        Ok(Request { peer, raw, is_done: false, _memory: memory })
    }

    /// # Safety
    /// `length` bytes from `bytes` on stay there, and nobody else uses them, until the request is done.
    unsafe fn receive(
        &self,
        peer: usize,
        tag: c_int,
        memory: Memory,
        bytes: *mut u8,
        length: usize,
    ) -> Result<Request> {
        let mut raw = unsafe { ffi::RSMPI_REQUEST_NULL };
        let code = unsafe {
            let (length, kind) = (length as c_int, ffi::RSMPI_UINT8_T);
            ffi::MPI_Irecv(bytes.cast(), length, kind, peer as c_int, tag, self.comm.0, &mut raw)
        };
        checked(peer, "MPI_Irecv", code)?;
        Ok(Request { peer, raw, is_done: false, _memory: memory })
    }

    /// Begins to send a message to each other rank.
    fn send_all(&self, Outgoing { kind, number, bytes }: Outgoing, sending: &mut Flying) -> Result<()> {
        for (peer, bytes) in bytes.into_iter().enumerate().filter(|(peer, _)| *peer != self.rank) {
            let header = vec![kind.number(), number, bytes.len() as u64];
            let place = header.as_ptr().cast();
            sending.requests.push(self.send(peer, HEADER, Memory::Header(header), place, 8 * WORDS)?);
            for piece in bytes.chunks(self.piece) {
                let memory = Memory::Message(bytes.clone());
                sending.requests.push(self.send(peer, PIECE, memory, piece.as_ptr(), piece.len())?);
            }
        }
        Ok(())
    }

    fn arriving(&self, peer: usize) -> Result<Arriving> {
        let mut header = vec![0; WORDS];
        let place = header.as_mut_ptr().cast();
        // SAFETY: the request keeps the header, and nobody looks at it before it is done.
        let request = unsafe { self.receive(peer, HEADER, Memory::Header(header), place, 8 * WORDS)? };
        let header = Flying { requests: vec![request] };
        Ok(Arriving { peer, header, pieces: None, is_taken: false })
    }

    /// The message, once it is there.
    fn advance(&self, arriving: &mut Arriving) -> Result<Option<Parcel>> {
        let Arriving { peer, header, pieces, is_taken } = arriving;
        header.poll()?;
        let Some(Request { is_done: true, _memory: Memory::Header(words), .. }) = header.requests.first() else {
            return Ok(None);
        };
        let &[kind, number, length] = &words[..] else { return Ok(None) };
        let refuse = |what: String| Error::Rank { rank: *peer, what, next: "run the same program on all ranks" };
        if pieces.is_none() {
            let mut flying = Flying::default();
            let length = usize::try_from(length).map_err(|_| refuse(format!("a message of {length} bytes")))?;
            let mut room: Vec<u8> = vec![];
            room.try_reserve_exact(length).map_err(|_| refuse(format!("no memory for a message of {length} bytes")))?;
            room.resize(length, 0);
            let places: Vec<_> = room.chunks_mut(self.piece).map(|piece| (piece.as_mut_ptr(), piece.len())).collect();
            let room = Arc::new(room);
            for (place, length) in places {
                let memory = Memory::Message(room.clone());
                // SAFETY: each request keeps the room, also one that is never done, and nobody looks at it before all are.
                flying.requests.push(unsafe { self.receive(*peer, PIECE, memory, place, length)? });
            }
            *pieces = Some((room, flying));
        }
        let Some((_, flying)) = pieces else { return Ok(None) };
        flying.poll()?;
        if !flying.is_done() {
            return Ok(None);
        }
        let Some((room, flying)) = pieces.take() else { return Ok(None) };
        *is_taken = true;
        drop(flying);
        let bytes = Arc::unwrap_or_clone(room);
        let kind = Kind::of(kind).ok_or_else(|| refuse(format!("a message of a kind with the number {kind}")))?;
        Ok(Some(Parcel { kind, number, bytes }))
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local
    }

    fn exchange(&self, out: Outgoing, longest: Duration) -> Result<Vec<Option<Parcel>>> {
        let (began, own, mut looks) = (Instant::now(), out.kind, 0);
        let others = (0..self.size).filter(|&peer| peer != self.rank);
        let mut arriving = others.map(|peer| self.arriving(peer)).collect::<Result<Vec<_>>>()?;
        let mut arrived: Vec<Option<Parcel>> = vec![None; self.size];
        let mut sending = Flying::default();
        self.send_all(out, &mut sending)?;
        loop {
            for arriving in arriving.iter_mut().filter(|arriving| !arriving.is_taken) {
                if let Some(parcel) = self.advance(arriving)? {
                    arrived[arriving.peer] = Some(parcel);
                }
            }
            sending.poll()?;
            let missing = arriving.iter().find(|arriving| !arriving.is_taken).map(|arriving| arriving.peer);
            let unsent = sending.requests.iter().find(|request| !request.is_done).map(|request| request.peer);
            // Whoever has left takes nothing more.
            let has_left = |peer: &usize| arrived[*peer].as_ref().is_some_and(|parcel| parcel.kind.is_last());
            match missing.or(unsent.filter(|peer| own.is_last() || !has_left(peer))) {
                None => return Ok(arrived),
                Some(_) if is_over(own, &arrived) => return Ok(arrived),
                Some(peer) if began.elapsed() >= longest => return Err(Error::no_answer(peer, longest)),
                Some(_) => {}
            }
            looks += 1;
            // Ranks may be more than cores: whoever computes comes first.
            if looks < EAGER { std::thread::yield_now() } else { std::thread::sleep(NAP) }
        }
    }

    fn last_words(&self, out: Outgoing) {
        let (began, mut sending) = (Instant::now(), Flying::default());
        // There is nobody to tell of what goes wrong here.
        let mut is_well = self.send_all(out, &mut sending).is_ok();
        while is_well && !sending.is_done() && began.elapsed() < LAST {
            std::thread::sleep(NAP);
            is_well = sending.poll().is_ok();
        }
    }

    fn finish(&self) {
        let universe = self.universe.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        // Ends MPI. Otherwise it is never ended, by which its launcher knows that something went wrong.
        drop(universe.map(ManuallyDrop::into_inner));
    }
}
