//! Means over the items of a stretch of training, summed on the device.
//!
//! Each step adds to one scalar a metric, in its own submission. Every few steps such a stretch is closed, and read when
//! later steps have been queued: the queue does not run dry. The host adds the stretches of an epoch up in f64, so that a
//! long epoch loses nothing to the f32 of the device.
//!
//! Of several ranks each keeps what its batches add to a sum, and at the end of a stretch they are added up in the order of
//! the batches, in the numbers of the device: the sums are those of one rank that has had all of them.

use std::collections::{BTreeMap, VecDeque};
use std::panic::Location;

use serde_json::{Map, Value, json};

use super::history::{number, number_of};
use super::reduced::{Own, gathered};
use crate::array::Array;
use crate::device::Device;
use crate::distributed::World;
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
    /// Of several ranks what each batch of this one adds, by the batch's number.
    own: Vec<(u64, Tensor)>,
    own_items: f64,
    /// A zero of its own for the next stretch. Computed, as the sums are, so that the first step of a stretch has the plan
    /// of the others.
    zero: Tensor,
}

/// A sum that is to be read.
#[derive(Clone)]
enum Sum {
    Device(Tensor),
    Host(f64),
    /// What was known when the stretch began, and what each batch of this rank has added since, with their items.
    Shared(Tensor, Vec<(u64, Tensor)>, f64),
}

impl Sum {
    async fn read(&self) -> Result<f64> {
        match self {
            Sum::Device(tensor) | Sum::Shared(tensor, ..) => tensor.item_async().await,
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
    /// The ranks whose sums these are, if there are several.
    pub ranks: Option<World>,
    /// The number of the present batch in its epoch.
    pub micro_batch: u64,
}

impl Sums {
    pub fn new(device: &Device) -> Sums {
        let device = device.clone();
        let (open, closed, totals) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Sums { device, open, closed, totals, before: vec![], streams: Streams::default(), ranks: None, micro_batch: 0 }
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
            let open = Open { state: State::new(&zero), items: 0.0, own: vec![], own_items: 0.0, zero };
            self.open.insert(name.into(), open);
        }
        let Some(open) = self.open.get_mut(name) else { return Ok(()) };
        let (sum, count) = (open.state.get(), open.items);
        let value = value.detach().cast(DType::F32).reshape(&[]);
        if self.ranks.is_some() {
            open.own.push((self.micro_batch, value * items));
            open.own_items += items;
            return Ok(());
        }
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
        if self.ranks.is_some() {
            let what = format!("the metric `{name}` of batches of training, of several ranks");
            let next = "record numbers in training, and such metrics in validations";
            return Err(Problem::Value(what, next).at("metric", at));
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
        let own = self.open.values().filter_map(|open| open.own.last());
        made.extend(own.map(|(_, value)| value.clone()));
        self.device.eval(&made.iter().collect::<Vec<_>>())
    }

    /// Ends a stretch.
    pub fn close(&mut self, epoch: u64, step: u64, known: BTreeMap<String, f64>) {
        let is_shared = self.ranks.is_some();
        let used = self.open.iter_mut().filter(|(_, open)| is_shared || open.items > 0.0);
        let close = |(name, open): (&String, &mut Open)| {
            let state = std::mem::replace(&mut open.state, State::new(&open.zero));
            let sum = match is_shared {
                true => Sum::Shared(state.get(), std::mem::take(&mut open.own), std::mem::take(&mut open.own_items)),
                false => Sum::Device(state.get()),
            };
            (name.clone(), sum, std::mem::take(&mut open.items))
        };
        let sums: Vec<_> = used.map(close).collect();
        // Of several ranks one may have none, and reads it with the others.
        if is_shared || !sums.is_empty() {
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
        let read = self.read(stretch.sums.iter().map(|(name, sum, items)| (name, sum, *items))).await?;
        let mut means = stretch.known.clone();
        for (name, Total { sum, items }) in read {
            let total = self.totals.entry(name.clone()).or_default();
            total.sum += sum;
            total.items += items;
            means.insert(name, sum / items);
        }
        Ok(means)
    }

    /// The values of sums: of several ranks those of all, which are at this call together.
    async fn read<'a>(&self, sums: impl Iterator<Item = (&'a String, &'a Sum, f64)>) -> Result<Vec<(String, Total)>> {
        let (mut read, mut own) = (vec![], Own::new());
        for (name, sum, items) in sums {
            read.push((name.clone(), Total { sum: sum.read().await?, items }));
            if let Sum::Shared(_, parts, items) = sum {
                let mut numbers = vec![];
                for (number, value) in parts {
                    numbers.push((*number, value.item_async().await?));
                }
                own.insert(name.clone(), (numbers, *items));
            }
        }
        let Some(world) = &self.ranks else { return Ok(read) };
        for (name, (numbers, items)) in gathered(world, &own)? {
            let known = read.iter_mut().position(|(known, _)| *known == name);
            let at = known.unwrap_or(read.len());
            if known.is_none() {
                read.push((name, Total::default()));
            }
            let Some((_, total)) = read.get_mut(at) else { continue };
            total.items += items;
            let exact = self.device.is_cpu();
            let add = |sum: f64, x: f64| if exact { sum + x } else { f64::from(sum as f32 + x as f32) };
            total.sum = numbers.iter().fold(total.sum, |sum, (_, x)| add(sum, *x));
        }
        read.retain(|(_, total)| total.items > 0.0);
        read.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(read)
    }

    /// What is under way, as sums that can be read.
    fn under_way(&self) -> Vec<(&String, Sum, f64)> {
        let used = self.open.iter().filter(|(_, open)| self.ranks.is_some() || open.items > 0.0);
        let sum = |(name, open): (_, &Open)| match self.ranks {
            Some(_) => (name, Sum::Shared(open.state.get(), open.own.clone(), open.own_items), open.items),
            None => (name, Sum::Device(open.state.get()), open.items),
        };
        used.map(sum).collect()
    }

    /// The means of all stretches that have been read since the last call.
    pub fn end_epoch(&mut self) -> BTreeMap<String, f64> {
        let totals = std::mem::take(&mut self.totals);
        totals.into_iter().map(|(name, total)| (name, total.sum / total.items)).collect()
    }

    /// The means so far, of what is still under way too. Nothing changes.
    pub async fn so_far(&self) -> Result<BTreeMap<String, f64>> {
        let mut totals = self.totals.clone();
        let mut add = |read: Vec<(String, Total)>| {
            for (name, Total { sum, items }) in read {
                let total = totals.entry(name).or_default();
                total.sum += sum;
                total.items += items;
            }
        };
        for stretch in &self.closed {
            add(self.read(stretch.sums.iter().map(|(name, sum, items)| (name, sum, *items))).await?);
        }
        let under_way = self.under_way();
        add(self.read(under_way.iter().map(|(name, sum, items)| (*name, sum, *items))).await?);
        Ok(totals.into_iter().map(|(name, total)| (name, total.sum / total.items)).collect())
    }

    /// All of it, for a checkpoint. Numbers of the device come back to the bit.
    pub async fn to_json(&self) -> Result<Value> {
        let mut open = Map::new();
        let under_way = self.under_way();
        for (name, total) in self.read(under_way.iter().map(|(name, sum, items)| (*name, sum, *items))).await? {
            open.insert(name, total.to_json());
        }
        let mut closed = vec![];
        for Stretch { epoch, step, known, sums } in &self.closed {
            let all = self.read(sums.iter().map(|(name, sum, items)| (name, sum, *items))).await?;
            let read: Map<String, Value> = all.into_iter().map(|(name, total)| (name, total.to_json())).collect();
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
            sums.open.insert(name.clone(), Open { state: State::new(&sum), items, own: vec![], own_items: 0.0, zero });
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
