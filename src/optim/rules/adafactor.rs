//! Adafactor (Shazeer and Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost"), as `torch.optim.Adafactor`
//! has it: of the second moment of a matrix it keeps the means of its rows and of its columns alone.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Beside, Moment, Now, Numbers, Rule, Update, arenas, numbers};
use crate::optim::settings::check_number;
use crate::optim::shapes::matrices;
use crate::shaders::optim::{ADAFACTOR, ADAFACTOR_CORRECTION};
use crate::shape::Shape;

/// Configuration of [`Adafactor`](crate::optim::Adafactor). The defaults are PyTorch's.
///
/// c = t^decay; of a matrix, or of each of the matrices that the last two axes hold, the means of g^2 over rows r and columns k move by
/// c to those of this step, and s = r k / mean(r); of other parameters s <- s + c (g^2 - s). u = g / sqrt(max(s, eps1^2)); theta <- (1 - lr wd)
/// theta - min(lr, 1 / sqrt(t)) max(eps2, rms(theta)) u / max(1, rms(u) / d)
///
/// Memory: rows + columns of each matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct AdafactorConfig {
    /// Learning rate, an upper bound: the rate of a step is relative to the size of the parameter.
    pub lr: f64,
    /// Power of the count of updates by which the means move less; below 0.
    pub beta2_decay: f64,
    /// The least mean of the rows, whose square is the least s, and the least size of a parameter.
    pub eps: (f64, f64),
    /// Largest root mean square of u.
    pub d: f64,
    /// Weight decay, scaled by the learning rate.
    pub weight_decay: f64,
}

impl Default for AdafactorConfig {
    fn default() -> Self {
        AdafactorConfig { lr: 1e-2, beta2_decay: -0.8, eps: (f64::from(f32::EPSILON), 1e-3), d: 1.0, weight_decay: 0.0 }
    }
}

fn nearer(old: f64, new: f64, c: f64) -> f64 {
    if c < 0.5 { old + c * (new - old) } else { new - (1.0 - c) * (new - old) }
}

impl Rule for AdafactorConfig {
    common!("adafactor");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::square("row"), Moment::square("column")]
    }

    fn moment_shape(&self, moment: usize, shape: Shape) -> Option<Shape> {
        match (matrices(&shape), moment) {
            (Some([count, rows, _]), 0) => Shape::new(&[count * rows]),
            (Some([count, _, columns]), 1) => Shape::new(&[count * columns]),
            // Every element is a row.
            (None, 0) => Some(shape),
            _ => None,
        }
    }

    fn beside(&self) -> Beside {
        Beside::Factors
    }

    fn measures(&self) -> bool {
        true
    }

    fn shader(&self) -> Shader {
        arenas(Shader::of(&[&ADAFACTOR]), &["theta", "gradients"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&ADAFACTOR_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let rates = [now.lr, now.weight_decay, self.eps.0, self.eps.1];
        numbers([rates, [self.d, self.beta2_decay, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps1, eps2, d, power, ..] = *update.numbers;
        let t = update.count as f64;
        let c = t.powf(power);
        let g = update.gradients;
        let (row, column) = update.moments.split_at_mut(1);
        let (row, column) = (&mut *row[0], &mut *column[0]);
        let estimates: Vec<f64> = match matrices(&update.shape) {
            Some([count, rows, columns]) => {
                let square = |b: usize, r: usize, k: usize| g[(b * rows + r) * columns + k].powi(2);
                let mut all = vec![];
                for b in 0..count {
                    let (row, column) = (&mut row[b * rows..][..rows], &mut column[b * columns..][..columns]);
                    for (r, old) in row.iter_mut().enumerate() {
                        *old = nearer(*old, (0..columns).map(|k| square(b, r, k)).sum::<f64>() / columns as f64, c);
                    }
                    for (k, old) in column.iter_mut().enumerate() {
                        *old = nearer(*old, (0..rows).map(|r| square(b, r, k)).sum::<f64>() / rows as f64, c);
                    }
                    let mean = (row.iter().sum::<f64>() / rows as f64).max(eps1);
                    all.extend(row.iter().flat_map(|r| column.iter().map(move |k| r * k / mean)));
                }
                all
            }
            None => {
                row.iter_mut().zip(g).for_each(|(old, g)| *old = nearer(*old, g * g, c));
                row.to_vec()
            }
        };
        let count = g.len() as f64;
        let u: Vec<f64> = g.iter().zip(&estimates).map(|(g, s)| g / s.max(eps1 * eps1).sqrt()).collect();
        let rms = |values: &[f64]| (values.iter().map(|x| x * x).sum::<f64>() / count).sqrt();
        let scale = lr.min(1.0 / t.sqrt()) * rms(update.values).max(eps2) / (rms(&u) / d).max(1.0);
        for (x, u) in update.values.iter_mut().zip(&u) {
            *x = *x * (1.0 - lr * decay) - scale * u;
        }
    }

    fn check(&self) -> Result<(), Problem> {
        check_number("the first eps", self.eps.0)?;
        check_number("the second eps", self.eps.1)?;
        if self.eps.0 > 0.0 && self.d > 0.0 && self.beta2_decay <= 0.0 {
            return Ok(());
        }
        let what = format!("eps {:?}, d {}, beta2_decay {}", self.eps, self.d, self.beta2_decay);
        Err(Problem::Value(what, "pass a positive first eps and d, and a decay of at most 0"))
    }
}
