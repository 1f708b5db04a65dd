//! What a fit gives back: the means of each epoch and of each validation, and why it ended.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// The numbers of a stretch of training, by name.
///
/// `loss`, `accuracy` and whatever else the training closure records are means over the items of the stretch; the same
/// over the validation data have `val_` in front. `lr` is the learning rate of the first optimizer at its end.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Record {
    /// The epoch that it belongs to; the first is 0.
    pub epoch: u64,
    /// Steps of the whole run that are done.
    pub step: u64,
    /// The numbers. One that is not finite stays so.
    pub values: BTreeMap<String, f64>,
    /// Seconds of training since the run began, those before a resumption included.
    pub seconds: f64,
}

impl Record {
    /// A number by name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// The same without the time, which no two runs share.
    #[must_use]
    pub fn without_time(&self) -> Record {
        Record { seconds: 0.0, ..self.clone() }
    }

    /// As JSON. Numbers that are not finite are texts.
    pub fn to_json(&self) -> Value {
        let values: Map<String, Value> = self.values.iter().map(|(name, x)| (name.clone(), number(*x))).collect();
        json!({ "epoch": self.epoch, "step": self.step, "values": values, "seconds": self.seconds })
    }

    /// What [`Record::to_json`] gave.
    pub(crate) fn of_json(value: &Value) -> Option<Record> {
        let named = |(name, x): (&String, &Value)| Some((name.clone(), number_of(x)?));
        Some(Record {
            epoch: value["epoch"].as_u64()?,
            step: value["step"].as_u64()?,
            values: value["values"].as_object()?.iter().map(named).collect::<Option<_>>()?,
            seconds: value["seconds"].as_f64()?,
        })
    }
}

/// A number as JSON has it: those that are not finite become texts.
pub(super) fn number(x: f64) -> Value {
    if x.is_finite() { json!(x) } else { json!(x.to_string()) }
}

/// What [`number`] gave.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.parse().ok())
}

/// Why a fit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stopped {
    /// All epochs are done.
    Epochs,
    /// All steps are done.
    Steps,
    /// Its time is over.
    Time,
    /// The flag of [`Trainer::stop_flag`](super::Trainer::stop_flag) was set: by a signal, or by another thread.
    Flag,
    /// A callback asked for it, and said why.
    Callback(String),
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stopped::Epochs => write!(f, "all epochs are done"),
            Stopped::Steps => write!(f, "all steps are done"),
            Stopped::Time => write!(f, "the time is over"),
            Stopped::Flag => write!(f, "it was asked to stop"),
            Stopped::Callback(why) => write!(f, "{why}"),
        }
    }
}

/// The course of a run. What was before a resumption is part of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// One record an epoch, with the numbers of training and of the validation at its end, if there was one.
    pub epochs: Vec<Record>,
    /// One record a validation, at the end of an epoch or within it. Its names begin with `val_`.
    pub validations: Vec<Record>,
    /// The epoch that the fit has ended within, because its steps or its time were over: the means until there, and a
    /// validation then.
    pub unfinished: Option<Record>,
    /// Steps that were skipped because a loss or a gradient was not finite.
    pub skipped: u64,
    /// What went wrong without ending the run, in order: a disk that was full, a batch that was halved.
    pub warnings: Vec<String>,
    /// Why the fit ended; `None` while it runs.
    pub stopped: Option<Stopped>,
}

impl History {
    /// The record of the last epoch, the unfinished one if there is one.
    pub fn last(&self) -> Option<&Record> {
        self.unfinished.as_ref().or(self.epochs.last())
    }

    /// The number `name` of the last epoch that has one.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.unfinished.iter().chain(self.epochs.iter().rev()).find_map(|record| record.get(name))
    }

    /// The same without times, which no two runs share: two runs of the same bits have the same.
    #[must_use]
    pub fn without_time(&self) -> History {
        let all = |records: &[Record]| records.iter().map(Record::without_time).collect();
        let unfinished = self.unfinished.as_ref().map(Record::without_time);
        History { epochs: all(&self.epochs), validations: all(&self.validations), unfinished, ..self.clone() }
    }

    /// As JSON. Numbers that are not finite are texts.
    pub fn to_json(&self) -> Value {
        let all = |records: &[Record]| -> Vec<Value> { records.iter().map(Record::to_json).collect() };
        json!({
            "epochs": all(&self.epochs),
            "validations": all(&self.validations),
            "skipped": self.skipped,
            "warnings": self.warnings,
        })
    }

    /// What [`History::to_json`] gave.
    pub(super) fn of_json(value: &Value) -> Option<History> {
        let all = |records: &Value| records.as_array()?.iter().map(Record::of_json).collect::<Option<Vec<_>>>();
        let text = |warning: &Value| Some(warning.as_str()?.to_string());
        Some(History {
            epochs: all(&value["epochs"])?,
            validations: all(&value["validations"])?,
            unfinished: None,
            skipped: value["skipped"].as_u64()?,
            warnings: value["warnings"].as_array()?.iter().map(text).collect::<Option<_>>()?,
            stopped: None,
        })
    }
}
