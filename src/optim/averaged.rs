//! The averages that rules keep themselves, in the place of the parameters: those of the schedule-free rules and of averaged
//! SGD.

use std::panic::Location;
use std::sync::Arc;

use super::blocks::owners;
use super::rule::Averaged;
use super::stepper::Stepper;
use crate::arena::Arena;
use crate::engine::{self, ArenaBinding, ArenaKernel, Bound, Work};
use crate::error::{Error, Problem, Result};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};
use crate::params::{Chunk, Kept, Placed};
use crate::plan::Plan;
use crate::shader::params;
use crate::shaders::optim::AVERAGED;
use crate::target::Target;

params! {
    /// Sizes of an average that is formed.
    struct Sizes {
        vectors,
        share: f32,
    }
}

/// An arena whose average is formed.
struct Formed {
    values: Arc<Arena>,
    moment: Arc<Arena>,
    average: Arc<Arena>,
    owners: Arc<[u32]>,
    share: f64,
}

impl<R: ?Sized> Stepper<R> {
    /// Puts the average that the rule keeps in the place of the parameters, on the device, until the guard is dropped: the x of
    /// the schedule-free rules, whose parameters hold y, and the `average` of averaged SGD. Evaluate and save with it. Does
    /// not wait.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// use kiln::optim::{ScheduleFreeSgd, ScheduleFreeSgdConfig};
    /// # let device = Device::cpu();
    /// # let params = ParamStore::new(&device, 1);
    /// # let weight = params.root().param("weight", &[3], Init::Ones);
    /// let mut optimizer = ScheduleFreeSgd::new(&params, ScheduleFreeSgdConfig::default());
    /// optimizer.step(&weight.tensor().sum_all())?;
    /// let kept = optimizer.averaged()?;
    /// params.save(std::env::temp_dir().join(format!("kiln-doc-{}-x.safetensors", std::process::id())))?;
    /// drop(kept); // training goes on
    /// # std::fs::remove_file(std::env::temp_dir().join(format!("kiln-doc-{}-x.safetensors", std::process::id()))).unwrap();
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// Parameters that have had no update, and those of other rules in the same optimizer, stay as they are. Tensors recorded
    /// before keep the values from before; steps meanwhile are errors.
    ///
    /// # Errors
    /// [`Error::Value`] if no rule keeps an average, for settings that cannot be used or while an average is in place,
    /// [`Error::NonFinite`] of an earlier step, or what the device refuses; nothing has changed then.
    #[track_caller]
    pub fn averaged(&mut self) -> Result<Kept> {
        let at = Location::caller();
        let layout = self.store.layout()?;
        let formed = self.formed(&layout, at)?;
        let counts = self.counts()?;
        self.store.exchange(("averaged", at), 0, |_| {
            match counts.is_cpu() {
                true => form_on_reference(&formed, &layout, counts)?,
                false => with_work(&formed, counts, |work| engine::run_kernels(self.store.device(), work))?,
            }
            Ok(self.averages.clone())
        })
    }

    /// The plan that forms [`Stepper::averaged`] on a device of this kind. Nothing is run. For tests.
    #[doc(hidden)]
    pub fn plan_averaged(&mut self, target: &Target) -> Result<Plan> {
        let layout = self.store.layout()?;
        let formed = self.formed(&layout, self.at)?;
        with_work(&formed, self.counts()?, |work| engine::plan_kernels(work, target))
    }

    fn counts(&self) -> Result<&Arc<Arena>> {
        self.tally.as_ref().map(|tally| &tally.counts).ok_or_else(missing)
    }

    /// What there is to form, a chunk each.
    fn formed(&mut self, layout: &[Placed], at: &'static Location<'static>) -> Result<Vec<Formed>> {
        let chunks = self.prepare()?;
        let (now, rules) = (self.now()?, self.rules_of_groups());
        let averaged = |chunk: &Chunk| self.rules[rules[chunk.group]?].rule.averaged(&now[chunk.group]);
        let each: Vec<Option<Averaged>> = chunks.iter().map(averaged).collect();
        if each.iter().all(Option::is_none) {
            let what = format!("{} keeps no average of the weights", self.name());
            let next = "take a schedule-free rule or averaged SGD, or let an Ema follow";
            return Err(Problem::Value(what, next).at("averaged", at));
        }
        if each.iter().flatten().any(|averaged| !averaged.share.is_finite()) {
            let what = "with a momentum of 0 the average cannot be formed again from what is kept".into();
            return Err(Problem::Value(what, "take a momentum, or a first beta, above 0").at("averaged", at));
        }
        while let Some(chunk) = chunks.get(self.averages.len()) {
            let arena = self.store.device().arena("an average of weights", chunk.values.elements)?;
            self.averages.push(arena);
        }
        let form = |(number, (chunk, averaged)): (usize, (Chunk, Option<Averaged>))| {
            // One without an average changes places with a copy of itself.
            let (moment, share) = match averaged {
                Some(Averaged { moment, share }) => {
                    (self.moments.get(number).and_then(|moments| moments.get(moment)).ok_or_else(missing)?, share)
                }
                None => (&chunk.values, 0.0),
            };
            let (moment, average) = (moment.clone(), self.averages[number].clone());
            let owners = owners(layout, number, 0, chunk.values.elements).into();
            Ok(Formed { values: chunk.values, moment, average, owners, share })
        };
        chunks.into_iter().zip(each).enumerate().map(form).collect()
    }
}

fn missing() -> Error {
    Error::internal("an optimizer without its arenas")
}

/// What `run` makes of the kernels that fill the arenas of the averages.
fn with_work<T>(formed: &[Formed], counts: &Arc<Arena>, run: impl FnOnce(&Work<'_>) -> T) -> T {
    let mut key = vec![counts.id];
    for Formed { values, moment, average, share, .. } in formed {
        key.extend([values.id, moment.id, average.id, share.to_bits()]);
    }
    let kernels = |_: usize, capabilities: &Capabilities| -> Result<Vec<ArenaKernel>> {
        Ok(formed.iter().map(|formed| formed.kernel(counts, capabilities)).collect())
    };
    run(&Work { name: "averaged", key, numbers: &[], kernels: &kernels })
}

/// The same on the reference.
fn form_on_reference(formed: &[Formed], layout: &[Placed], counts: &Arc<Arena>) -> Result<()> {
    let counts = counts.cpu()?;
    for (number, place) in layout.iter().enumerate() {
        let Some(Formed { values, moment, average, share, .. }) = formed.get(place.chunk) else { continue };
        let range = place.offset..place.offset + place.shape.elements();
        let own = values.cpu()?[range.clone()].to_vec();
        let kept = moment.cpu()?[range.clone()].to_vec();
        let is_new = counts[number] == 0.0;
        for (average, (x, m)) in average.cpu()?[range].iter_mut().zip(own.into_iter().zip(kept)) {
            *average = match *share {
                _ if is_new => x,
                1.0 => m,
                share => x + share * (m - x),
            };
        }
    }
    Ok(())
}

impl Formed {
    fn kernel(&self, counts: &Arc<Arena>, capabilities: &Capabilities) -> ArenaKernel {
        let form = Vectors::of(self.values.elements, capabilities);
        let vectors = self.values.elements / form.width();
        let mut kernel = Kernel::own("averaged", Shader::of(&[form.file(), &AVERAGED]));
        kernel.uniform(Sizes { vectors, share: self.share as f32 });
        kernel.workgroups = vectors.div_ceil(64) as u64;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(&self.values, "theta", "$V$"));
        kernel.bind(ArenaBinding::read(&self.moment, "moment", "$V$"));
        kernel.bind(ArenaBinding::write(&self.average, "average", "$V$"));
        kernel.bind(ArenaBinding::read(counts, "counts", "u32"));
        kernel.bind(ArenaBinding::read(Bound::Table(self.owners.clone()), "owners", "u32"));
        kernel
    }
}
