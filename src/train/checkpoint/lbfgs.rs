//! L-BFGS as a part: what it remembers, and its counters.

use serde_json::{Value, json};

use super::kinds::{entry, object};
use super::names::OPTIMIZER;
use super::part::{Commit, Part, PartReader, PartWriter};
use crate::dtype::DType;
use crate::error::Result;
use crate::optim::{Lbfgs, LbfgsInPlace, LbfgsSaved};
use crate::params::ParamStore;

const RULE: &str = "lbfgs";
const SAME_RUN: &str = "resume with the model and settings that it was saved with";

/// The tensors are vectors of all parameters: the last `direction` and `gradient`, for each step that is remembered
/// `0.step` and `0.change`, the oldest first; and two scalars.
impl Part for Lbfgs {
    fn kind(&self) -> &str {
        OPTIMIZER
    }

    fn changes_with(&self) -> Option<&ParamStore> {
        Some(self.store())
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        let LbfgsInPlace { saved, tensors } = self.saved()?;
        to.state(json!({
            "rule": RULE,
            "iterations": saved.iterations,
            "evaluations": saved.evaluations,
            "length": saved.length.map(|length| length.to_string()),
            "pairs": saved.pairs,
            "names": saved.names,
        }));
        tensors.iter().try_for_each(|(name, tensor)| to.tensor(name.as_str(), tensor))
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let saved = object(from, &["rule", "iterations", "evaluations", "length", "pairs", "names"])?;
        entry(from, saved, "rule", |rule| (rule == RULE).then_some(()))?;
        let name = |name: &Value| name.as_str().map(String::from);
        let saved = LbfgsSaved {
            iterations: entry(from, saved, "iterations", Value::as_u64)?,
            evaluations: entry(from, saved, "evaluations", Value::as_u64)?,
            length: entry(from, saved, "length", |length| match length {
                Value::Null => Some(None),
                text => Some(Some(text.as_str()?.parse().ok()?)),
            })?,
            pairs: entry(from, saved, "pairs", |pairs| usize::try_from(pairs.as_u64()?).ok())?,
            names: entry(from, saved, "names", |names| names.as_array()?.iter().map(name).collect())?,
        };
        let device = self.store().device().clone();
        let tensor = |name: &str, shape: &[usize]| from.tensor(&device, name, shape, DType::F32);
        let restored = self.fitting(&saved, &tensor)?.map_err(|what| from.refuse(what, SAME_RUN))?;
        Ok(Box::new(move || {
            self.restore(restored);
            Ok(())
        }))
    }
}
