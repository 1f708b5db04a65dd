//! The totals of metrics as a part of a checkpoint.

use serde_json::{Map, Value, json};

use super::Metrics;
use super::accumulate::{self, Accumulated, Held};
use crate::dtype::DType;
use crate::error::Result;
use crate::train::checkpoint::{Commit, Part, PartReader, PartWriter};

/// The names of what is held, in the order of `Accumulated::all`; files have no NaN, so its places are in the state.
impl Part for Metrics {
    fn kind(&self) -> &str {
        "metrics"
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        self.submit()?;
        let mut state = vec![];
        for (number, entry) in self.entries.iter().enumerate() {
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

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        const SAME: &str = "load it into the same metrics, in the same order";
        let damaged = || from.refuse("its totals are damaged", "take another copy of the file");
        let saved = from.state().as_array().ok_or_else(damaged)?;
        let name = |entry: &Value| entry["name"].as_str().map(String::from);
        let names: Vec<String> = saved.iter().filter_map(name).collect();
        if !names.iter().map(String::as_str).eq(self.names()) {
            let own: Vec<&str> = self.names().collect();
            return Err(from.refuse(format!("it has the metrics {names:?}, where {own:?} are wanted"), SAME));
        }
        let mut loaded = vec![];
        for (number, entry) in saved.iter().enumerate() {
            let entry = entry.as_object().ok_or_else(damaged)?;
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
            loaded.push(totals);
        }
        Ok(Box::new(move || {
            for (entry, totals) in self.entries.iter_mut().zip(loaded) {
                entry.totals = totals;
            }
            Ok(())
        }))
    }
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
