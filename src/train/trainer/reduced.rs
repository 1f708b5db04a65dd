//! What the ranks of a fit have of a metric, gathered.

use std::collections::BTreeMap;

use crate::distributed::World;
use crate::error::{Error, Result};

/// A number of each micro-batch, by its own number in an epoch.
pub(super) type Numbers = Vec<(u64, f64)>;

/// What a rank has of a metric since its last reading: its numbers, and their items.
pub(super) type Own = BTreeMap<String, (Numbers, f64)>;

/// The metrics of all ranks: numbers in the order of the micro-batches.
pub(super) fn gathered(world: &World, own: &Own) -> Result<Own> {
    let mut bytes = vec![];
    for (name, (numbers, items)) in own {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((numbers.len() as u64).to_le_bytes());
        bytes.extend(items.to_le_bytes());
        numbers.iter().for_each(|(at, x)| bytes.extend([at.to_le_bytes(), x.to_le_bytes()].concat()));
    }
    let mut all = Own::new();
    for (rank, bytes) in world.gather_bytes(bytes)?.iter().enumerate() {
        let next = "run the same program on all ranks";
        add(&mut all, bytes).ok_or_else(|| Error::Rank { rank, what: "its metrics are cut off".into(), next })?;
    }
    all.values_mut().for_each(|(numbers, _)| numbers.sort_by_key(|(at, _)| *at));
    Ok(all)
}

fn add(all: &mut Own, mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        let length = word(&mut bytes).map(u64::from_le_bytes)?;
        let (name, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
        bytes = rest;
        let name = std::str::from_utf8(name).ok()?;
        let count = word(&mut bytes).map(u64::from_le_bytes)?;
        let (numbers, items) = all.entry(name.into()).or_default();
        *items += word(&mut bytes).map(f64::from_le_bytes)?;
        for _ in 0..count {
            numbers.push((word(&mut bytes).map(u64::from_le_bytes)?, word(&mut bytes).map(f64::from_le_bytes)?));
        }
    }
    Some(())
}

fn word(bytes: &mut &[u8]) -> Option<[u8; 8]> {
    let (word, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*word)
}
