//! Muon: momentum whose matrices are made orthogonal (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"), as
//! `torch.optim.Muon` has it, in f32 where PyTorch computes in bf16.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Beside, Moment, Now, Numbers, Rule, Update, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::optim::shapes::sides;
use crate::shaders::optim::MUON;
use crate::shape::Shape;

/// What the rate of a matrix is multiplied by, by its rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MuonRate {
    /// sqrt(max(1, rows / columns)).
    #[default]
    Original,
    /// 0.2 sqrt(max(rows, columns)): steps as large as AdamW's, whose rates and decay then serve (Moonshot 2025).
    MatchAdamW,
}

/// Configuration of [`Muon`](crate::optim::Muon). The defaults are PyTorch's.
///
/// m <- mu m + (1-mu) g; u = mu m + (1-mu) g with Nesterov's momentum, else m; X = u / |u|, then in each round A = X X^T, X <- a X + (b A + c
/// A A) X; theta <- (1 - lr wd) theta - lr ratio X.
///
/// For matrices: of a parameter with more axes the first is that of the rows. Give vectors and embeddings another rule
/// ([`Optimizers`](crate::optim::Optimizers)).
#[derive(Debug, Clone, PartialEq)]
pub struct MuonConfig {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay, scaled by the learning rate.
    pub weight_decay: f64,
    /// Momentum.
    pub momentum: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// a, b and c.
    pub coefficients: (f64, f64, f64),
    /// The least norm that is divided by.
    pub eps: f64,
    /// Rounds.
    pub rounds: usize,
    /// How the rate depends on the sides of a matrix.
    pub rate: MuonRate,
}

impl Default for MuonConfig {
    fn default() -> Self {
        MuonConfig {
            lr: 1e-3,
            weight_decay: 0.1,
            momentum: 0.95,
            nesterov: true,
            coefficients: (3.4445, -4.775, 2.0315),
            eps: 1e-7,
            rounds: 5,
            rate: MuonRate::Original,
        }
    }
}

/// `left` [m, k] times the transpose of `right` [n, k].
fn times_transposed(left: &[f64], right: &[f64], k: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    left.chunks(k).flat_map(|a| right.chunks(k).map(move |b| dot(a, b))).collect()
}

fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).flat_map(|c| matrix.iter().skip(c).step_by(columns).copied()).collect()
}

impl MuonConfig {
    /// `u` [rows, columns] made orthogonal.
    fn orthogonal(&self, u: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
        let (a, b, c) = self.coefficients;
        let norm = u.iter().map(|x| x * x).sum::<f64>().sqrt().max(self.eps);
        let high = rows > columns;
        let (short, long) = (rows.min(columns), rows.max(columns));
        let mut x: Vec<f64> = u.iter().map(|x| x / norm).collect();
        if high {
            x = transposed(&x, columns);
        }
        for _ in 0..self.rounds {
            let gram = times_transposed(&x, &x, long);
            // It is symmetric.
            let square = times_transposed(&gram, &gram, short);
            let mixed: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
            let product = times_transposed(&mixed, &transposed(&x, long), short);
            x.iter_mut().zip(product).for_each(|(x, product)| *x = a * *x + product);
        }
        if high { transposed(&x, rows) } else { x }
    }

    /// The factor of the rate of a matrix.
    fn ratio(&self, [rows, columns]: [usize; 2]) -> f64 {
        let (rows, columns) = (rows as f64, columns as f64);
        match self.rate {
            MuonRate::Original => (rows / columns).max(1.0).sqrt(),
            MuonRate::MatchAdamW => 0.2 * rows.max(columns).sqrt(),
        }
    }
}

impl Rule for MuonConfig {
    common!("muon");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("momentum")]
    }

    fn takes(&self, shape: &Shape) -> Result<(), Problem> {
        if shape.len() >= 2 {
            return Ok(());
        }
        let what = format!("Muon for a parameter of shape {shape}, which is no matrix");
        Err(Problem::Shape(what, "give vectors another rule: Optimizers::of(&params).matrices(muon).rest(adamw)"))
    }

    fn beside(&self) -> Beside {
        Beside::Orthogonal(self.rounds)
    }

    fn ratio(&self, shape: &Shape) -> f64 {
        MuonConfig::ratio(self, sides(shape))
    }

    fn measures(&self) -> bool {
        true
    }

    fn shader(&self) -> Shader {
        let shader = Shader::of(&[&MUON]).bound(0, true, "theta", "$V$");
        shader.bound(1, true, "gradients", "$V$").bound(2, true, "momentum", "$V$")
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let mu = now.momentum.unwrap_or(self.momentum);
        let (a, b, c) = self.coefficients;
        let nesterov = f64::from(u8::from(self.nesterov));
        numbers([[now.lr, now.weight_decay, self.eps, 0.0], [mu, 1.0 - mu, nesterov, 0.0], [a, b, c, 0.0], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, _, _, mu, rest, ..] = *update.numbers;
        let momentum = &mut *update.moments[0];
        momentum.iter_mut().zip(update.gradients).for_each(|(m, g)| *m = mu * *m + rest * g);
        let mixed = momentum.iter().zip(update.gradients);
        let u: Vec<f64> = mixed.map(|(m, g)| if self.nesterov { mu * m + rest * g } else { *m }).collect();
        let sides = sides(&update.shape);
        let (orthogonal, ratio) = (self.orthogonal(&u, sides), MuonConfig::ratio(self, sides));
        for (x, o) in update.values.iter_mut().zip(orthogonal) {
            *x = *x * (1.0 - lr * decay) - lr * ratio * o;
        }
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("momentum", self.momentum)?;
        check_number("eps", self.eps)?;
        let (a, b, c) = self.coefficients;
        if self.eps > 0.0 && self.rounds <= 100 && [a, b, c].iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        let what = format!("eps {}, {} rounds, coefficients {:?}", self.eps, self.rounds, self.coefficients);
        Err(Problem::Value(what, "pass a positive eps, at most 100 rounds, and finite coefficients"))
    }
}
