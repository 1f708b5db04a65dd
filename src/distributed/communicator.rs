//! What carries messages between the ranks of a run.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;

/// What all ranks must be at when they exchange messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A comparison of settings.
    Agree,
    /// Values of one rank for all.
    Broadcast,
    /// Numbers of each rank for all.
    Gather,
    /// Gradients, each range for the rank that sums it.
    Scatter,
    /// Sums of gradients for all.
    Sums,
    /// Nothing: whoever has it has come as far as the others.
    Barrier,
    /// The end of a run. It is the sender's last message.
    Leaves,
    /// What the sender has met, in words. It is its last message.
    Failed,
    /// Statistics of a batch that is spread over the ranks.
    Statistics,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Agree,
        Kind::Broadcast,
        Kind::Gather,
        Kind::Scatter,
        Kind::Sums,
        Kind::Barrier,
        Kind::Leaves,
        Kind::Failed,
        Kind::Statistics,
    ];

    /// Its number in a message's header.
    pub fn number(self) -> u64 {
        Kind::ALL.iter().position(|kind| *kind == self).unwrap_or(0) as u64
    }

    /// The kind of a number.
    pub fn of(number: u64) -> Option<Kind> {
        Kind::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// True if nothing comes behind it.
    pub fn is_last(self) -> bool {
        matches!(self, Kind::Leaves | Kind::Failed)
    }

    /// What a rank is doing there, in words.
    pub fn doing(self) -> &'static str {
        match self {
            Kind::Agree => "comparing settings",
            Kind::Broadcast => "taking values of rank 0",
            Kind::Gather => "gathering numbers",
            Kind::Scatter => "sending gradients",
            Kind::Sums => "sending sums of gradients",
            Kind::Barrier => "waiting for the others",
            Kind::Leaves => "at its end",
            Kind::Failed => "failing",
            Kind::Statistics => "joining statistics of a batch",
        }
    }
}

/// A message as it arrives.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// What its sender is at.
    pub kind: Kind,
    /// How many exchanges its sender had before.
    pub number: u64,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// A message for each rank, and for none to itself.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// What this rank is at.
    pub kind: Kind,
    /// How many exchanges it had before.
    pub number: u64,
    /// For each rank what it gets; the own place is not looked at.
    pub bytes: Vec<Arc<Vec<u8>>>,
}

/// A way to carry messages between ranks: MPI, or threads of one process. [`World`](super::World) does all else.
pub trait Communicator: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;
    /// How many ranks there are.
    fn size(&self) -> usize;
    /// The number of this rank among those of its machine.
    fn local_rank(&self) -> usize;
    /// Sends each other rank its message, and gives what each has sent, `None` for the own place and for whoever is not
    /// waited for any longer.
    ///
    /// It ends when each has sent one, or as soon as that can no longer make an exchange ([`is_over`]).
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank) if one does not answer within `longest`, or the network refuses a message.
    fn exchange(&self, out: Outgoing, longest: Duration) -> Result<Vec<Option<Parcel>>>;
    /// Sends a last message without waiting for others; what cannot be sent at once is let go.
    fn last_words(&self, out: Outgoing);
    /// Ends well: all ranks are at their end.
    fn finish(&self);
}

/// True if these messages end an exchange of this kind before all are there: one has failed, or one is at its end and another
/// is not.
pub fn is_over(own: Kind, arrived: &[Option<Parcel>]) -> bool {
    let is_over = |theirs: Kind| theirs == Kind::Failed || theirs.is_last() != own.is_last();
    arrived.iter().flatten().any(|parcel| is_over(parcel.kind))
}
