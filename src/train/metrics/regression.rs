//! Metrics of predicted numbers.

use std::panic::Location;

use super::{Figure, Metric, Observation, Totals};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What is the least that a target divides by in [`Residual::Mape`], as in scikit-learn: the distance of 1 to the next f64.
const LEAST: f64 = f64::EPSILON;

/// A mean over all elements of predictions and targets, floats of one shape. NaN before the first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    /// Mean absolute error. `mean_absolute_error`.
    Mae,
    /// Mean squared error. `mean_squared_error`.
    Mse,
    /// Root of the mean squared error. `root_mean_squared_error` of one output.
    Rmse,
    /// Mean of the errors' absolute values, each divided by that of its target: 0.1 is ten per cent. A target of 0 divides by 2^-52.
    /// `mean_absolute_percentage_error`.
    Mape,
}

impl Metric for Residual {
    fn name(&self) -> String {
        match self {
            Residual::Mae => "mae",
            Residual::Mse => "mse",
            Residual::Rmse => "rmse",
            Residual::Mape => "mape",
        }
        .into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [predictions, targets] = alike("Residual", predictions, targets)?;
        let error = &predictions - &targets;
        let each = match self {
            Residual::Mae => error.abs(),
            Residual::Mse | Residual::Rmse => error.square(),
            Residual::Mape => error.abs() / targets.abs().maximum(LEAST),
        };
        let sums = Some(each.sum_all().reshape(&[1]));
        Ok(Observation { items: targets.dims().elements() as u64, sums, ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let mean = totals.sum(0)? / totals.items as f64;
        Ok(Figure::new(if *self == Residual::Rmse { mean.sqrt() } else { mean }))
    }
}

/// Coefficient of determination: 1 less the squared errors over the squared distances of the targets from their mean. 1
/// is perfect, 0 as good as the mean, and there is no lower bound.
///
/// Predictions and targets are floats of one shape, `[n]`, or `[n, outputs]`: then it is the mean over the outputs, which
/// [`Figure::by_class`] has one by one. Of targets that are all the same it is 1 if all errors are 0, else 0; NaN of
/// fewer than two items. `r2_score`.
#[derive(Debug, Clone, Copy, Default)]
pub struct R2;

impl Metric for R2 {
    fn name(&self) -> String {
        "r2".into()
    }

    /// Sums, for each output: of squared errors, of the targets' distances from the very first, and of their squares. The
    /// origin keeps digits where targets lie close together far from 0.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, kept: Option<&Tensor>) -> Result<Observation> {
        let [predictions, targets] = alike("R2", predictions, targets)?;
        let items = targets.dims().first().copied().unwrap_or(1);
        let outputs = targets.dims().elements() / items;
        let [predictions, targets] = [predictions, targets].map(|x| x.reshape(&[items, outputs]));
        let origin = kept.cloned().unwrap_or_else(|| targets.slice(0, 0, 1));
        let distance = &targets - &origin;
        let squares = (&predictions - &targets).square().sum(0);
        let sums = Tensor::concat(&[&squares, &distance.sum(0), &distance.square().sum(0)], 0);
        Ok(Observation { items: items as u64, sums: Some(sums), kept: Some(origin), ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let (outputs, items) = (totals.sums.len() / 3, totals.items as f64);
        let of = |output: usize| {
            let [errors, sum, squares] = [0, 1, 2].map(|part| totals.sums[part * outputs + output]);
            let spread = squares - sum * sum / items;
            match (errors == 0.0, spread == 0.0) {
                _ if totals.items < 2 => f64::NAN,
                (true, true) => 1.0,
                (false, true) => 0.0,
                _ => 1.0 - errors / spread,
            }
        };
        let by_output: Vec<f64> = (0..outputs).map(of).collect();
        let mean = by_output.iter().sum::<f64>() / outputs as f64;
        let by_class = match outputs {
            1 => vec![],
            _ => by_output.iter().enumerate().map(|(output, &value)| (output.to_string(), value)).collect(),
        };
        Ok(Figure { value: mean, by_class, ..Figure::default() })
    }
}

/// Both in f32, of one shape.
pub(super) fn alike(op: &'static str, predictions: &Tensor, targets: &Tensor) -> Result<[Tensor; 2]> {
    let at = Location::caller();
    if let Some(other) = [predictions, targets].into_iter().find(|x| !x.meta().dtype.is_float()) {
        let what = format!("predictions and targets are floats, not {}", other.meta().dtype);
        return Err(Error::DType { op, at, what });
    }
    if predictions.dims() != targets.dims() {
        let what = format!("predictions of shape {} for targets of shape {}", predictions.dims(), targets.dims());
        return Err(Error::Shape { op, at, what, next: "give both one shape: squeeze the axis of a single output" });
    }
    Ok([predictions, targets].map(|x| x.cast(DType::F32)))
}
