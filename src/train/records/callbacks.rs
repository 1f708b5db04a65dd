//! The writers as callbacks of a trainer. None waits for the device: they are told what has been read. What a full disk
//! refuses is [`Error::Io`](crate::Error::Io), which a trainer tells once as a warning, and goes on.

use super::{CsvLog, JsonLines, Report, TensorBoard};
use crate::error::Result;
use crate::train::{Callback, Event, Record, Run};

impl TensorBoard {
    /// Every number of a record, below `group`.
    fn record(&mut self, group: &str, record: &Record) -> Result<()> {
        for (name, value) in &record.values {
            let name = name.strip_prefix("val_").filter(|_| group == "validation").unwrap_or(name);
            self.scalar(&format!("{group}/{name}"), record.step, *value)?;
        }
        Ok(())
    }

    /// The run's settings, for the view of hyper-parameters; written when a fit starts.
    #[must_use]
    pub fn settings(mut self, settings: &super::Settings) -> TensorBoard {
        self.hparams = settings.entries().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        self
    }
}

impl Callback for TensorBoard {
    fn is_of_first_rank(&self) -> bool {
        true
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match event {
            Event::FitStart { resumed } => {
                if resumed {
                    self.resume_at(run.step() + 1)?;
                }
                let settings = std::mem::take(&mut self.hparams);
                match settings.is_empty() {
                    true => Ok(()),
                    false => {
                        let metrics = ["epoch/loss", "validation/loss"];
                        self.hyperparameters(settings.iter().map(|(name, value)| (name, value)), &metrics)
                    }
                }
            }
            Event::Logged(record) => self.record("train", record),
            Event::Validated(record) => self.record("validation", record),
            Event::EpochEnd(record) => {
                // Those of validation have been told of.
                let values = record.values.iter().filter(|(name, _)| !name.starts_with("val_"));
                let values = values.map(|(name, value)| (name.clone(), *value)).collect();
                self.record("epoch", &Record { values, ..record.clone() })
            }
            Event::FitEnd(_) => self.end(true),
            Event::Failed(_) => self.end(false),
            _ => Ok(()),
        }
    }
}

impl Callback for CsvLog {
    fn is_of_first_rank(&self) -> bool {
        true
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match event {
            Event::FitStart { resumed: true } => self.rewind(run.step()),
            Event::EpochEnd(record) => self.write_once(record),
            _ => Ok(()),
        }
    }
}

impl Callback for JsonLines {
    fn is_of_first_rank(&self) -> bool {
        true
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match event {
            Event::FitStart { resumed: true } => self.rewind(run.step()),
            Event::Logged(record) => self.write_once("logged", record),
            Event::Validated(record) => self.write_once("validated", record),
            Event::EpochEnd(record) => self.write_once("epoch", record),
            _ => Ok(()),
        }
    }
}

impl Callback for Report {
    fn is_of_first_rank(&self) -> bool {
        true
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match event {
            Event::Figures { validation, figures } => {
                self.figures(if validation { "Validation" } else { "Training" }, figures);
                Ok(())
            }
            Event::EpochEnd(record) => {
                let mut records = run.history().epochs.clone();
                // It may be in the history already.
                if records.last().is_none_or(|last| last.epoch < record.epoch) {
                    records.push(record.clone());
                }
                self.records(&records);
                self.status(format!("running, epoch {}", record.epoch + 1));
                self.write()
            }
            Event::FitEnd(history) => {
                self.records(&history.epochs);
                history.warnings.iter().for_each(|warning| self.note(warning));
                self.status(history.stopped.as_ref().map_or("ended".into(), |why| format!("ended: {why}")));
                self.write()
            }
            Event::Failed(error) => {
                self.status(format!("failed: {error}"));
                self.write()
            }
            _ => Ok(()),
        }
    }
}
