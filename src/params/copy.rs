//! Weights of another store, copied or followed: target networks.

use std::collections::HashMap;
use std::panic::Location;

use super::{BLOCK, Chunk, ParamStore, Placed};
use crate::engine::{self, ArenaBinding, ArenaKernel, Bound, Work};
use crate::error::{Error, Problem, Result};
use crate::kernel::{Capabilities, Kernel, Shader};
use crate::shader::params;
use crate::shaders::params::{BLEND, COPY};
use crate::version::StoreState;

params! {
    /// Sizes of a copy.
    struct Sizes {
        vectors,
        /// First word of its host numbers.
        word,
    }
}

/// Elements that lie in one piece in both stores.
#[derive(Clone, Copy)]
struct Piece {
    /// The arena, and the first element there.
    own: (usize, usize),
    other: (usize, usize),
    elements: usize,
}

impl ParamStore {
    /// theta <- (1 - tau) theta + tau theta', with theta' the parameter of the same name in `other`: a target network that
    /// follows (Lillicrap et al. 2016, "Continuous control with deep reinforcement learning"), or, with a tau of 1, a copy of
    /// all bits. It runs on the device, one kernel where two arenas lie alike; frozen parameters are changed too, states
    /// (running statistics) are not. Tensors recorded before keep the values from before.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # let device = Device::cpu();
    /// let (online, target) = (ParamStore::new(&device, 1), ParamStore::new(&device, 2));
    /// let [weight, follower] = [&online, &target].map(|store| store.root().param("weight", &[2], Init::Zeros));
    /// weight.set(&[1.0, 2.0])?;
    /// target.copy_from(&online, 0.25)?;
    /// assert_eq!(follower.values()?, [0.25, 0.5]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`] unless tau is from 0 to 1 and both stores have parameters of the same names, [`Error::Shape`] unless
    /// these have the same shapes, [`Error::Device`] for a store on another device, the failure of an earlier step of
    /// either, or what computing held tensors met; nothing has changed then.
    #[track_caller]
    pub fn copy_from(&self, other: &ParamStore, tau: f64) -> Result<()> {
        let at = Location::caller();
        if !(0.0..=1.0).contains(&tau) {
            let problem = Problem::Value(format!("tau is {tau}"), "pass a number from 0 to 1");
            return Err(problem.at("copy_from", at));
        }
        if !self.device().same(other.device()) {
            let [left, right] = [self, other].map(|store| store.device().name().into());
            return Err(Error::Device { op: "copy_from", at, left, right });
        }
        if self.same(other) {
            return Ok(());
        }
        let both = [self.state().clone(), other.state().clone()];
        let _gates = StoreState::enter_all(&both);
        self.return_weights()?;
        self.state().check_own("copy_from", at)?;
        self.state().take_failure()?;
        other.state().take_failure()?;
        let pieces = pieces(self.layout()?, other.layout()?).map_err(|problem| problem.at("copy_from", at))?;
        self.settle_held()?;
        copy(self, other, &pieces, tau)?;
        self.state().advance();
        Ok(())
    }
}

/// The pieces in which two stores have the same parameters.
fn pieces(mut own: Vec<Placed>, other: Vec<Placed>) -> Result<Vec<Piece>, Problem> {
    const NEXT: &str = "build both models the same way";
    let mut others: HashMap<&str, &Placed> = other.iter().map(|place| (&*place.name, place)).collect();
    own.sort_by_key(|place| (place.chunk, place.offset));
    let mut pieces: Vec<Piece> = vec![];
    for Placed { name, shape, chunk, offset, .. } in &own {
        let Some(other) = others.remove(&**name) else {
            return Err(Problem::Value(format!("the other store has no parameter `{name}`"), NEXT));
        };
        if other.shape != *shape {
            return Err(Problem::Shape(format!("`{name}` is {shape} here and {} there", other.shape), NEXT));
        }
        let elements = shape.elements().next_multiple_of(BLOCK);
        let (from, to) = ((*chunk, *offset), (other.chunk, other.offset));
        match pieces.last_mut() {
            Some(last) if follows(last.own, last.elements, from) && follows(last.other, last.elements, to) => {
                last.elements += elements;
            }
            _ => pieces.push(Piece { own: from, other: to, elements }),
        }
    }
    match others.keys().min() {
        Some(name) => Err(Problem::Value(format!("the other store has a parameter `{name}`, this one has not"), NEXT)),
        None => Ok(pieces),
    }
}

/// True if `next` is where `elements` from `first` on end.
fn follows(first: (usize, usize), elements: usize, next: (usize, usize)) -> bool {
    first.0 == next.0 && first.1 + elements == next.1
}

fn copy(store: &ParamStore, other: &ParamStore, pieces: &[Piece], tau: f64) -> Result<()> {
    let (own, others) = (store.chunks(false)?, other.chunks(false)?);
    if store.device().is_cpu() {
        for &Piece { own: (chunk, first), other: (from, start), elements } in pieces {
            let others = others[from].values.cpu()?;
            let mut values = own[chunk].values.cpu()?;
            for (x, y) in values[first..][..elements].iter_mut().zip(&others[start..]) {
                *x = if tau == 1.0 { *y } else { *x + tau * (y - *x) };
            }
        }
        return Ok(());
    }
    let mut key = vec![u64::from(tau == 1.0)];
    for piece in pieces {
        let (to, from) = (&own[piece.own.0].values, &others[piece.other.0].values);
        key.extend([to.id, piece.own.1 as u64, from.id, piece.other.1 as u64, piece.elements as u64]);
    }
    let kernels = |word: usize, _: &Capabilities| -> Result<Vec<ArenaKernel>> {
        Ok(pieces.iter().map(|piece| kernel(piece, &own, &others, word, tau)).collect())
    };
    let numbers = &[tau, 0.0, 0.0, 0.0];
    engine::run_kernels(store.device(), &Work { name: "copy_from", key, numbers, kernels: &kernels })
}

fn kernel(piece: &Piece, own: &[Chunk], others: &[Chunk], word: usize, tau: f64) -> ArenaKernel {
    let vectors = piece.elements / 4;
    // As words, so that every bit arrives.
    let (name, shader, element) = match tau {
        1.0 => ("copy_from", Shader::of(&[&COPY]), "vec4<u32>"),
        _ => ("copy_from.blend", Shader::of(&[&BLEND]).with_operands(), "vec4<f32>"),
    };
    let mut kernel = Kernel::own(name, shader);
    kernel.uniform(Sizes { vectors, word });
    kernel.workgroups = vectors.div_ceil(64) as u64;
    let bound = |chunk: &Chunk, first| Bound::Range(chunk.values.place.clone(), first, piece.elements);
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::write(bound(&own[piece.own.0], piece.own.1), "own", element));
    kernel.bind(ArenaBinding::read(bound(&others[piece.other.0], piece.other.1), "other", element));
    kernel
}
