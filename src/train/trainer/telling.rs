//! What callbacks are told, and what becomes of their errors.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::callback::{Callback, Event, Run};
use super::settings::Trainer;
use crate::error::{Error, Result};
use crate::train::metrics::Figures;

impl Trainer {
    /// What callbacks add to the numbers of a validation or of an epoch.
    pub(super) fn measured(&mut self, validation: bool) -> Result<BTreeMap<String, f64>> {
        self.extra.clear();
        self.emit(Event::Measure { validation }, None)?;
        Ok(std::mem::take(&mut self.extra))
    }

    /// Reads the metrics that are no means, and tells callbacks what they have come to.
    pub(super) async fn figures(&mut self, validation: bool) -> Result<Figures> {
        if self.sums.streams.is_empty() {
            return Ok(Figures::default());
        }
        let figures = self.sums.streams.figures().await?;
        self.emit(Event::Figures { validation, figures: &figures }, None)?;
        Ok(figures)
    }

    /// Tells callbacks of steps that were refused.
    pub(super) fn tell_skipped(&mut self) -> Result<()> {
        for error in std::mem::take(&mut self.refusals.untold) {
            self.history.skipped = self.refusals.count;
            self.emit(Event::Skipped(&error), None)?;
        }
        Ok(())
    }

    /// Tells of something that does not end the run.
    pub(super) fn warn(&mut self, text: &str) -> Result<()> {
        self.history.warnings.push(text.into());
        let mut shown = false;
        self.emit(Event::Warning(text), Some(&mut shown))?;
        if !shown && self.world.is_first() {
            eprintln!("kiln: {text}");
        }
        Ok(())
    }

    /// Tells callbacks of an event. `shown` is set by one that shows warnings.
    pub(super) fn emit(&mut self, event: Event<'_>, shown: Option<&mut bool>) -> Result<()> {
        let mut callbacks = std::mem::take(&mut self.callbacks);
        let result = self.tell(event, &mut callbacks, shown.unwrap_or(&mut false));
        self.callbacks = callbacks;
        for warning in result? {
            self.warn(&warning)?;
        }
        Ok(())
    }

    /// What callbacks are to be warned about.
    fn tell(
        &mut self,
        event: Event<'_>,
        callbacks: &mut [(String, Box<dyn Callback>)],
        shown: &mut bool,
    ) -> Result<Vec<String>> {
        let mut warnings = vec![];
        let is_first = self.world.is_first();
        for (name, callback) in callbacks.iter_mut().filter(|(_, callback)| is_first || !callback.is_of_first_rank()) {
            let elapsed = self.elapsed();
            let mut run = Run {
                epoch: self.place.epoch,
                batch: self.place.batch,
                step: self.place.step,
                batches_per_epoch: self.per_epoch,
                epochs: self.epochs,
                steps: self.steps,
                items: self.items,
                elapsed,
                validates: self.validates,
                history: &self.history,
                stores: &self.stores,
                optimizers: &mut self.optimizers,
                asked: &mut self.asked,
                shown: &mut *shown,
                extra: &mut self.extra,
            };
            let error = match catch_unwind(AssertUnwindSafe(|| callback.on(event, &mut run))) {
                Ok(Ok(())) => continue,
                // A full disk ends no run.
                Ok(Err(error @ Error::Io { .. })) => {
                    if !self.warned.contains(name) {
                        self.warned.push(name.clone());
                        warnings.push(format!("callback `{name}`: {error}; training goes on, and this is said once"));
                    }
                    continue;
                }
                Ok(Err(error)) => error,
                Err(panic) => Error::Data { what: format!("it panicked: {}", words(&*panic)), next: "correct it" },
            };
            return Err(Error::Callback { name: name.clone(), source: Box::new(error) });
        }
        Ok(warnings)
    }
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a word")
}
