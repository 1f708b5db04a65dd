//! The totals of metrics as a part of a checkpoint.

use serde_json::{Map, Value, json};

use super::accumulate::{self, Accumulated, Held};
use super::{Figures, Metrics};
use crate::dtype::DType;
use crate::error::Result;
use crate::train::checkpoint::{Commit, Part, PartReader, PartWriter};

impl Part for Metrics {
    fn kind(&self) -> &str {
        "metrics"
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        write(self, None, to)
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        const SAME: &str = "load it into the same metrics, in the same order";
        let loaded = read(from)?;
        if !loaded.iter().map(|one| one.name.as_str()).eq(self.names()) {
            let own: Vec<&str> = self.names().collect();
            let names: Vec<&str> = loaded.iter().map(|one| one.name.as_str()).collect();
            return Err(from.refuse(format!("it has the metrics {names:?}, where {own:?} are wanted"), SAME));
        }
        Ok(Box::new(move || {
            for (entry, loaded) in self.entries.iter_mut().zip(loaded) {
                entry.totals = loaded.totals;
            }
            Ok(())
        }))
    }
}

/// What a checkpoint has of a metric.
pub(super) struct Loaded {
    pub name: String,
    /// The figure that the totals made when they were written, if it was written too.
    pub figure: Option<f64>,
    pub totals: Accumulated,
}

/// Writes the totals, and figures if they are given. Names of tensors are places in the order of `Accumulated::all`; files
/// have no NaN, so its places are in the state.
pub(super) fn write(metrics: &Metrics, figures: Option<&Figures>, to: &mut PartWriter<'_>) -> Result<()> {
    metrics.submit()?;
    let mut state = vec![];
    for (number, entry) in metrics.entries.iter().enumerate() {
        let totals = &entry.totals;
        let mut tensors = vec![];
        for (place, held) in totals.all().enumerate() {
            let array = match held {
                Held::Host(array) => array.clone(),
                Held::Device(tensor) => tensor.to_array()?,
            };
            let nan: Vec<usize> = (0..array.data.len()).filter(|&i| array.data[i].is_nan()).collect();
            let values = array.data.iter().map(|x| if x.is_nan() { 0.0 } else { *x }).collect();
            tensors.push(json!({"dtype": name(array.dtype), "shape": array.shape[..], "nan": nan}));
            to.values(format!("{number}.{place}"), &array.shape, values)?;
        }
        let rows: Vec<usize> = totals.rows.iter().map(Vec::len).collect();
        state.push(json!({
            "name": entry.name,
            // As a text: JSON has neither NaN nor infinities.
            "figure": figures.and_then(|figures| figures.value(&entry.name)).map(|value| value.to_string()),
            "batches": totals.batches,
            "items": totals.items,
            "counts": totals.counts.is_some(),
            "sums": totals.sums.is_some(),
            "kept": totals.kept.is_some(),
            "rows": rows,
            "tensors": tensors,
        }));
    }
    to.state(state);
    Ok(())
}

/// Reads what [`write`] has written.
pub(super) fn read(from: &PartReader<'_>) -> Result<Vec<Loaded>> {
    let damaged = || from.refuse("its totals are damaged", "take another copy of the file");
    let mut loaded = vec![];
    for (number, entry) in from.state().as_array().ok_or_else(damaged)?.iter().enumerate() {
        let entry = entry.as_object().ok_or_else(damaged)?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let name = text("name").ok_or_else(damaged)?.to_string();
        let figure = text("figure").map(|figure| figure.parse().map_err(|_| damaged())).transpose()?;
        let mut totals = outline(entry).ok_or_else(damaged)?;
        let tensors = entry.get("tensors").and_then(Value::as_array).ok_or_else(damaged)?;
        if totals.all().count() != tensors.len() {
            return Err(damaged());
        }
        for ((place, held), told) in totals.all_mut().enumerate().zip(tensors) {
            let (dtype, shape, nan) = tensor(told).ok_or_else(damaged)?;
            let mut values = from.values(&format!("{number}.{place}"), &shape)?;
            for at in nan {
                *values.get_mut(at).ok_or_else(damaged)? = f64::NAN;
            }
            // Whole numbers that a damaged file might not have.
            if dtype != DType::F32 && values.iter().any(|&value| dtype.hold(value).is_none()) {
                return Err(damaged());
            }
            *held = Held::Host(accumulate::array(&shape, dtype, values));
        }
        loaded.push(Loaded { name, figure, totals });
    }
    Ok(loaded)
}

/// Totals with as many tensors as were saved, all still to be filled.
fn outline(entry: &Map<String, Value>) -> Option<Accumulated> {
    let blank = || Held::Host(accumulate::array(&[], DType::F32, vec![]));
    let is_there = |name: &str| entry.get(name)?.as_bool();
    let number = |name: &str| entry.get(name)?.as_u64();
    let rows = entry.get("rows")?.as_array()?.iter();
    let rows = rows.map(|count| Some((0..count.as_u64()?.min(16)).map(|_| blank()).collect::<Vec<_>>()));
    Some(Accumulated {
        batches: number("batches")?,
        items: number("items")?,
        counts: is_there("counts")?.then(|| [blank(), blank()]),
        sums: is_there("sums")?.then(blank),
        kept: is_there("kept")?.then(blank),
        rows: rows.collect::<Option<_>>()?,
    })
}

fn tensor(told: &Value) -> Option<(DType, Vec<usize>, Vec<usize>)> {
    let sizes = |name: &str| -> Option<Vec<usize>> {
        told[name].as_array()?.iter().map(|size| Some(size.as_u64()? as usize)).collect()
    };
    let dtype = told["dtype"].as_str()?;
    let dtype = [DType::F32, DType::I32, DType::U32].into_iter().find(|known| name(*known) == dtype)?;
    Some((dtype, sizes("shape")?, sizes("nan")?))
}

fn name(dtype: DType) -> String {
    dtype.to_string()
}
