//! What a checkpoint keeps of L-BFGS.

use super::memory::{Last, Memory, Pair};
use super::{Lbfgs, Whole, names_fit};
use crate::error::Result;
use crate::tensor::Tensor;

/// All but tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Saved {
    pub iterations: u64,
    pub evaluations: u64,
    /// The length of the last step, if there was one.
    pub length: Option<f64>,
    /// How many steps are remembered.
    pub pairs: usize,
    /// Names of the parameters that vectors are made of.
    pub names: Vec<String>,
}

/// What is saved, with tensors by their names.
pub(crate) struct LbfgsInPlace {
    pub saved: Saved,
    pub tensors: Vec<(String, Tensor)>,
}

/// What is to be put in place.
pub(crate) struct Restored(Memory, Vec<String>);

impl Lbfgs {
    /// What a resumed run needs. Waits for the device.
    pub(crate) fn saved(&self) -> Result<LbfgsInPlace> {
        self.store().settled()?;
        let Memory { iterations, evaluations, pairs, last } = &self.memory;
        let saved = Saved {
            iterations: *iterations,
            evaluations: *evaluations,
            length: last.as_ref().map(|last| last.length),
            pairs: pairs.len(),
            names: self.names.clone(),
        };
        let of_last = last.iter().flat_map(|last| {
            [("direction", &last.direction), ("gradient", &last.gradient), ("scale", &last.scale)]
                .map(|(name, tensor)| (name.to_string(), tensor.clone()))
        });
        let of_pairs = pairs.iter().enumerate().flat_map(|(number, pair)| {
            pair.tensors().map(|(name, tensor)| (format!("{number}.{name}"), tensor.clone()))
        });
        Ok(LbfgsInPlace { saved, tensors: of_last.chain(of_pairs).collect() })
    }

    /// What is saved, with tensors as `tensor` finds them by name and shape; `Err` with why it does not fit, and nothing
    /// has changed yet.
    pub(crate) fn fitting(
        &self,
        saved: &Saved,
        tensor: &dyn Fn(&str, &[usize]) -> Result<Tensor>,
    ) -> Result<Result<Restored, String>> {
        let whole = Whole::of(self.store())?;
        let Saved { iterations, evaluations, length, pairs, names } = saved;
        if !names.is_empty() && !names_fit(names, &whole) {
            return Ok(Err("it is of other parameters".into()));
        }
        if *pairs > self.config.history_size || *pairs as u64 > *iterations || (*pairs > 0 && length.is_none()) {
            return Ok(Err(format!("{pairs} steps are remembered of {iterations}")));
        }
        if length.is_some_and(|length| !length.is_finite()) {
            return Ok(Err("the length of the last step is not finite".into()));
        }
        let vector = &[whole.elements()][..];
        let last = match length {
            None => None,
            Some(length) => Some(Last {
                direction: tensor("direction", vector)?,
                gradient: tensor("gradient", vector)?,
                scale: tensor("scale", &[])?,
                length: *length,
            }),
        };
        let pair = |number: usize| -> Result<Pair> {
            let of = |name: &str, shape: &[usize]| tensor(&format!("{number}.{name}"), shape);
            Ok(Pair { step: of("step", vector)?, change: of("change", vector)?, inverse: of("inverse", &[])? })
        };
        let pairs = (0..*pairs).map(pair).collect::<Result<_>>()?;
        let memory = Memory { iterations: *iterations, evaluations: *evaluations, pairs, last };
        Ok(Ok(Restored(memory, names.clone())))
    }

    /// Puts what fits in place.
    pub(crate) fn restore(&mut self, Restored(memory, names): Restored) {
        (self.memory, self.names) = (memory, names);
    }
}
