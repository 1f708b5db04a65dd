//! Layers one after the other.

use std::fmt;

use super::module::{Mode, Module};
use crate::tensor::Tensor;

/// Passes its input through every layer in turn.
#[derive(Default)]
pub struct Sequential {
    layers: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// No layers: passes its input on.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// With one more layer at the end: a module, or a function such as `Tensor::relu`.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "the field's word for it")]
    pub fn add(mut self, layer: impl Module + 'static) -> Sequential {
        self.layers.push(Box::new(layer));
        self
    }

    /// Number of layers.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// True without layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Module for Sequential {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.forward(&x, mode);
        }
        x
    }
}

impl fmt::Debug for Sequential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequential({} layers)", self.layers.len())
    }
}
