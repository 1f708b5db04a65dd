//! Means over the items of a stretch of training, summed on the device.
//!
//! Each step adds to one scalar a metric, in its own submission. Every few steps such a stretch is closed, and read when
//! later steps have been queued: the queue does not run dry. The host adds the stretches of an epoch up in f64, so that a
//! long epoch loses nothing to the f32 of the device.

use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;

use serde_json::{Map, Value, json};

use super::history::{number, number_of};
use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Problem, Result};
use crate::shape::Shape;
use crate::state::State;
use crate::tensor::Tensor;
use crate::train::metrics::{Metric, Streams};

/// Steps behind the end of a stretch before it is read: by then the device has long computed it.
const LAG: u64 = 3;

/// A name for a mean and for another metric at once.
fn twofold(name: &str, at: &'static Location<'static>) -> Error {
    let what = format!("`{name}` is recorded as a number and by a metric");
    Problem::Value(what, "give one of them another name").at("metric", at)
}

/// A sum over items, and their number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Total {
    sum: f64,
    items: f64,
}

impl Total {
    fn to_json(self) -> Value {
        json!([number(self.sum), number(self.items)])
    }

    fn of_json(value: &Value) -> Option<Total> {
        Some(Total { sum: number_of(&value[0])?, items: number_of(&value[1])? })
    }
}

/// A sum on the device that is under way.
struct Open {
    state: State,
    items: f64,
    /// A zero of its own for the next stretch. Computed, as the sums are, so that the first step of a stretch has the plan
    /// of the others.
    zero: Tensor,
}

/// A sum that is to be read.
#[derive(Clone)]
enum Sum {
    Device(Tensor),
    Host(f64),
}

impl Sum {
    async fn read(&self) -> Result<f64> {
        match self {
            Sum::Device(tensor) => tensor.item_async().await,
            Sum::Host(value) => Ok(*value),
        }
    }
}

/// A stretch that has been closed.
pub(super) struct Stretch {
    pub epoch: u64,
    pub step: u64,
    /// What is known of its end besides the sums: learning rates.
    pub known: BTreeMap<String, f64>,
    sums: Vec<(String, Sum, f64)>,
}

/// The metrics of an epoch, or of a validation.
pub(super) struct Sums {
    device: Device,
    open: BTreeMap<String, Open>,
    closed: VecDeque<Stretch>,
    /// Of the stretches of this epoch that have been read.
    totals: BTreeMap<String, Total>,
    /// What the present batch has added to, as it was before it.
    before: Vec<(String, Tensor, f64)>,
    /// Metrics that are no means.
    pub streams: Streams,
}

impl Sums {
    pub fn new(device: &Device) -> Sums {
        let device = device.clone();
        let (open, closed, totals) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Sums { device, open, closed, totals, before: vec![], streams: Streams::default() }
    }

    /// Adds a metric of so many items.
    ///
    /// # Errors
    /// The error that it carries, [`Error::Shape`](crate::Error::Shape) unless it is one number.
    pub fn add(&mut self, name: &str, value: &Tensor, items: f64, at: &'static Location<'static>) -> Result<()> {
        if let Some(error) = value.error() {
            return Err(error.clone());
        }
        if value.dims().elements() != 1 {
            let what = format!("metric `{name}` has shape {}, where one number is wanted", value.dims());
            return Err(Problem::Shape(what, "reduce it first, by mean_all or sum_all").at("metric", at));
        }
        if self.streams.has(name) {
            return Err(twofold(name, at));
        }
        if !self.open.contains_key(name) {
            let zero = self.device.zeros(&[]);
            self.device.eval(&[&zero])?;
            self.open.insert(name.into(), Open { state: State::new(&zero), items: 0.0, zero });
        }
        let Some(open) = self.open.get_mut(name) else { return Ok(()) };
        let (sum, count) = (open.state.get(), open.items);
        let value = value.detach().cast(DType::F32).reshape(&[]);
        open.state.assign(&(&sum + value * items));
        open.items += items;
        self.before.push((name.into(), sum, count));
        Ok(())
    }

    /// Adds a batch to a metric that is no mean.
    ///
    /// # Errors
    /// What it does not take.
    pub fn add_stream(
        &mut self,
        name: &str,
        metric: Box<dyn Metric>,
        batch: &[Tensor; 2],
        at: &'static Location<'static>,
    ) -> Result<()> {
        if self.open.contains_key(name) {
            return Err(twofold(name, at));
        }
        self.streams.update(name, metric, batch, at)
    }

    /// Undoes what the present batch has added.
    pub fn undo(&mut self) {
        self.streams.undo();
        while let Some((name, sum, items)) = self.before.pop() {
            if let Some(open) = self.open.get_mut(&name) {
                (open.state, open.items) = (State::new(&sum), items);
            }
        }
    }

    /// Ends a batch: what no step has computed on the way is queued now. Does not wait.
    pub fn end_batch(&mut self) -> Result<()> {
        self.before.clear();
        // Together: what metrics, losses and means are made of, the forward pass first of all, runs once.
        let mut made = self.streams.end_batch();
        made.extend(self.open.values().map(|open| open.state.get()));
        self.device.eval(&made.iter().collect::<Vec<_>>())
    }

    /// Ends a stretch.
    pub fn close(&mut self, epoch: u64, step: u64, known: BTreeMap<String, f64>) {
        let used = self.open.iter_mut().filter(|(_, open)| open.items > 0.0);
        let close = |(name, open): (&String, &mut Open)| {
            let state = std::mem::replace(&mut open.state, State::new(&open.zero));
            (name.clone(), Sum::Device(state.get()), std::mem::take(&mut open.items))
        };
        let sums: Vec<_> = used.map(close).collect();
        if !sums.is_empty() {
            self.closed.push_back(Stretch { epoch, step, known, sums });
        }
    }

    /// The oldest stretch, if it ended long enough before `step`, or `at_once`.
    pub fn next_closed(&mut self, step: u64, at_once: bool) -> Option<Stretch> {
        let is_due = |stretch: &Stretch| at_once || step >= stretch.step + LAG;
        if self.closed.front().is_some_and(is_due) { self.closed.pop_front() } else { None }
    }

    /// Puts a stretch back that could not be read.
    pub fn put_back(&mut self, stretch: Stretch) {
        self.closed.push_front(stretch);
    }

    /// Reads a stretch, and adds it to the epoch; its means.
    pub async fn take(&mut self, stretch: &Stretch) -> Result<BTreeMap<String, f64>> {
        let mut read = vec![];
        for (name, sum, items) in &stretch.sums {
            read.push((name, Total { sum: sum.read().await?, items: *items }));
        }
        let mut means = stretch.known.clone();
        for (name, Total { sum, items }) in read {
            let total = self.totals.entry(name.clone()).or_default();
            total.sum += sum;
            total.items += items;
            means.insert(name.clone(), sum / items);
        }
        Ok(means)
    }

    /// The means of all stretches that have been read since the last call.
    pub fn end_epoch(&mut self) -> BTreeMap<String, f64> {
        let totals = std::mem::take(&mut self.totals);
        totals.into_iter().map(|(name, total)| (name, total.sum / total.items)).collect()
    }

    /// The means so far, of what is still under way too. Nothing changes.
    pub async fn so_far(&self) -> Result<BTreeMap<String, f64>> {
        let mut totals = self.totals.clone();
        let mut add = |name: &str, sum: f64, items: f64| {
            let total = totals.entry(name.into()).or_default();
            total.sum += sum;
            total.items += items;
        };
        for stretch in &self.closed {
            for (name, sum, items) in &stretch.sums {
                add(name, sum.read().await?, *items);
            }
        }
        for (name, open) in self.open.iter().filter(|(_, open)| open.items > 0.0) {
            add(name, open.state.get().item_async().await?, open.items);
        }
        Ok(totals.into_iter().map(|(name, total)| (name, total.sum / total.items)).collect())
    }

    /// All of it, for a checkpoint. Numbers of the device come back to the bit.
    pub async fn to_json(&self) -> Result<Value> {
        let mut open = Map::new();
        for (name, own) in self.open.iter().filter(|(_, own)| own.items > 0.0) {
            let sum = own.state.get().item_async().await?;
            open.insert(name.clone(), Total { sum, items: own.items }.to_json());
        }
        let mut closed = vec![];
        for Stretch { epoch, step, known, sums } in &self.closed {
            let mut read = Map::new();
            for (name, sum, items) in sums {
                read.insert(name.clone(), Total { sum: sum.read().await?, items: *items }.to_json());
            }
            let known: Map<String, Value> = known.iter().map(|(name, x)| (name.clone(), number(*x))).collect();
            closed.push(json!({ "epoch": epoch, "step": step, "known": known, "sums": read }));
        }
        let totals: Map<String, Value> =
            self.totals.iter().map(|(name, total)| (name.clone(), total.to_json())).collect();
        Ok(json!({ "open": open, "closed": closed, "totals": totals }))
    }

    /// What [`Sums::to_json`] gave; `None` if it did not give this.
    pub fn of_json(device: &Device, value: &Value) -> Option<Sums> {
        let mut sums = Sums::new(device);
        for (name, total) in value["open"].as_object()? {
            let Total { sum, items } = Total::of_json(total)?;
            let [sum, zero] =
                [sum, 0.0].map(|x| device.array(&Array { shape: Shape::SCALAR, dtype: DType::F32, data: vec![x] }));
            sums.open.insert(name.clone(), Open { state: State::new(&sum), items, zero });
        }
        for stretch in value["closed"].as_array()? {
            let known = |(name, x): (&String, &Value)| Some((name.clone(), number_of(x)?));
            let sum = |(name, total): (&String, &Value)| {
                let Total { sum, items } = Total::of_json(total)?;
                Some((name.clone(), Sum::Host(sum), items))
            };
            sums.closed.push_back(Stretch {
                epoch: stretch["epoch"].as_u64()?,
                step: stretch["step"].as_u64()?,
                known: stretch["known"].as_object()?.iter().map(known).collect::<Option<_>>()?,
                sums: stretch["sums"].as_object()?.iter().map(sum).collect::<Option<_>>()?,
            });
        }
        for (name, total) in value["totals"].as_object()? {
            sums.totals.insert(name.clone(), Total::of_json(total)?);
        }
        Some(sums)
    }
}
