//! What attention has seen so far, kept on the device for sampling.

use super::attention::MultiHeadAttention;
use crate::dtype::DType;
use crate::error::Problem;
use crate::state::State;
use crate::tensor::Tensor;

/// Keys and values of the positions so far, of each layer: what makes a new token cost one position instead of all of them.
///
/// Room for `capacity` positions is taken at once, and where the next position goes travels as a host number. So shapes never change: the
/// first few tokens make plans, and all later ones run them. Each token attends over the whole capacity, of which it sees what there is.
///
/// A cache is made by [`super::MultiHeadAttention::cache`] or [`super::TransformerEncoder::cache`], is filled by their `_cached` methods, and
/// belongs to no store: steps do not change it and checkpoints do not keep it. Once parameters change, what it holds is out of date.
#[derive(Debug)]
pub struct KeyValueCache {
    /// Keys and values of each layer: `[batch, heads, capacity, features]`.
    layers: Vec<[State; 2]>,
    capacity: usize,
    length: usize,
}

/// Keys and values with the new ones among them.
pub(super) struct Past {
    pub keys: Tensor,
    pub values: Tensor,
    /// Bool `[new, capacity]`: true where a new position sees a position of the cache.
    pub seen: Tensor,
}

impl KeyValueCache {
    /// Empty, for these layers.
    pub(super) fn of<'a>(
        layers: impl IntoIterator<Item = &'a MultiHeadAttention>,
        batch: usize,
        capacity: usize,
    ) -> KeyValueCache {
        let empty = |layer: &MultiHeadAttention| [0, 1].map(|_| State::new(&layer.empty(batch, capacity)));
        KeyValueCache { layers: layers.into_iter().map(empty).collect(), capacity, length: 0 }
    }

    /// Positions that it holds: the place of the next one.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Positions that it has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The last `count` positions that its layers were called with are positions of the past from now on. Beyond the capacity there are none.
    pub fn advance(&mut self, count: usize) {
        self.length = self.length.saturating_add(count).min(self.capacity);
    }

    /// [`KeyValueCache::advance`] by the positions of `y`, if there is no error.
    pub(super) fn advance_by(&mut self, y: &Tensor) {
        if let (None, &[_, new, _]) = (y.error(), &y.dims()[..]) {
            self.advance(new);
        }
    }

    /// Forgets all but the first `length` positions: for another continuation of the same prompt, or with 0 for another text.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Puts `key` and `value`, `[batch, heads, new, features]`, at the next positions of a layer.
    #[track_caller]
    pub(super) fn extended(&self, layer: usize, key: &Tensor, value: &Tensor) -> Result<Past, Tensor> {
        const OP: &str = "attend_cached";
        let Some(states) = self.layers.get(layer) else {
            let what = format!("layer {layer} of a cache of {}", self.layers.len());
            return Err(key.problem(OP, Problem::Value(what, "make the cache for as many layers as there are")));
        };
        let (dims, device) = (*key.dims(), key.device());
        let new = dims[2];
        if new > self.capacity - self.length {
            let what = format!("{new} positions behind {} in a cache for {}", self.length, self.capacity);
            let next = "make a cache with a larger capacity, or truncate it";
            return Err(key.problem(OP, Problem::Value(what, next)));
        }
        let old = states.each_ref().map(State::get);
        if let Some(broken) = old.iter().find(|old| old.error().is_some()) {
            return Err(broken.clone());
        }
        if let Some(old) = old.iter().find(|old| old.dims()[..] != [dims[0], dims[1], self.capacity, dims[3]]) {
            let what = format!("keys and values {dims} for a cache of {}", old.dims());
            return Err(key.problem(OP, Problem::Shape(what, "make a cache for this batch, by the layer's `cache`")));
        }
        // Where the new positions begin is a number beside tensors: another one makes no other plan.
        let place = device.arange(self.capacity, DType::I32);
        let number = place.minus(self.length);
        let is_new = number.ge(0).logical_and(&number.lt(new)).reshape(&[self.capacity, 1]);
        let put = |state: &State, old: &Tensor, given: &Tensor| {
            let given = given.cast(old.meta().dtype);
            let spread = match new {
                1 => given,
                _ => given.index_select(2, &number.clamp(0.0, (new - 1) as f64)),
            };
            state.assign(&is_new.where_(&spread, old));
            // What the state holds, not what it was made from: so one run computes it and what is made of it.
            state.get()
        };
        let [keys, values] = [put(&states[0], &old[0], key), put(&states[1], &old[1], value)];
        let last = device.arange(new, DType::I32).plus(self.length).reshape(&[new, 1]);
        let dtype = key.meta().dtype;
        Ok(Past { keys: keys.cast(dtype), values: values.cast(dtype), seen: place.le(&last) })
    }
}
