//! Adam (Kingma and Ba 2015, "Adam: a method for stochastic optimization") and AdamW, with decoupled weight decay (Loshchilov
//! and Hutter 2019, "Decoupled weight decay regularization", algorithm 2), as `torch.optim` has them; both with AMSGrad
//! (Reddi, Kale and Kumar 2018).

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shader::Item;
use crate::shaders::optim::{ADAM, ADAM_CORRECTION};

/// Configuration of [`AdamW`](crate::optim::AdamW). The defaults are PyTorch's.
///
/// m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; theta <- theta - lr ( (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps) + wd theta )
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, scaled by the learning rate; it never enters the moments.
    pub weight_decay: f64,
    /// AMSGrad: the root is taken of the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 1e-2, amsgrad: false }
    }
}

/// Configuration of [`Adam`](crate::optim::Adam). The defaults are PyTorch's.
///
/// As [`AdamWConfig`], but weight decay is a penalty: it is added to the gradient and enters the moments.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
    /// AMSGrad: the root is taken of the largest second moment so far.
    pub amsgrad: bool,
}

impl Default for AdamConfig {
    fn default() -> Self {
        AdamConfig { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, amsgrad: false }
    }
}

/// What both are.
struct Both {
    betas: (f64, f64),
    eps: f64,
    amsgrad: bool,
    decoupled: bool,
}

impl Both {
    fn moments(&self) -> Vec<Moment> {
        let mut moments = vec![Moment::new("m"), Moment::square("v")];
        moments.extend(self.amsgrad.then_some(Moment::square("v_max")));
        moments
    }

    fn shader(&self) -> Shader {
        let (names, mean, kept) = match self.amsgrad {
            true => (&["m", "v", "v_max"][..], "max(old.v_max, v)", "$Moments$(m, v, max(old.v_max, v))"),
            false => (&["m", "v"][..], "v", "$Moments$(m, v)"),
        };
        let four = "vec4<f32>";
        let mean = format!("fn $mean_of_squares$(old: $Moments$, v: {four}) -> {four} {{\n    return {mean};\n}}\n");
        let kept = format!(
            "fn $kept_moments$(old: $Moments$, m: {four}, v: {four}) -> $Moments$ {{\n    return {kept};\n}}\n"
        );
        let shader = Shader::of(&[&ADAM]).item(Item::new("mean_of_squares", mean));
        elementwise(shader.item(Item::new("kept_moments", kept)), names)
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        let ([h1, l1], [h2, l2]) = (logarithm(b1), logarithm(b2));
        let (l2_factor, decay) = match self.decoupled {
            true => (0.0, now.lr * now.weight_decay),
            false => (now.weight_decay, 0.0),
        };
        numbers([[now.lr, l2_factor, self.eps, decay], [b1, 1.0 - b1, b2, 1.0 - b2], [h1, l1, h2, l2], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, l2, eps, decay, b1, c1, b2, c2, ..] = *update.numbers;
        let t = update.count as f64;
        let (first, second) = (1.0 - b1.powf(t), 1.0 - b2.powf(t));
        let step = |x: f64, g: f64, m: &mut f64, v: &mut f64, of: &mut dyn FnMut(f64) -> f64| {
            let d = g + l2 * x;
            *m = b1 * *m + c1 * d;
            *v = b2 * *v + c2 * d * d;
            x - (decay * x + lr / first * *m / ((of(*v) / second).sqrt() + eps))
        };
        match self.amsgrad {
            true => update.each(|x, g, [m, v, most]| {
                step(x, g, m, v, &mut |v| {
                    *most = most.max(v);
                    *most
                })
            }),
            false => update.each(|x, g, [m, v]| step(x, g, m, v, &mut |v| v)),
        }
    }
}

macro_rules! rule {
    ($config:ident, $name:literal, $decoupled:literal) => {
        impl $config {
            fn both(&self) -> Both {
                let $config { betas, eps, amsgrad, .. } = *self;
                Both { betas, eps, amsgrad, decoupled: $decoupled }
            }
        }

        impl Rule for $config {
            common!($name);

            fn moments(&self) -> Vec<Moment> {
                self.both().moments()
            }

            fn shader(&self) -> Shader {
                self.both().shader()
            }

            fn correction(&self) -> Option<Shader> {
                Some(Shader::of(&[&ADAM_CORRECTION]))
            }

            fn numbers(&self, now: &Now) -> Numbers {
                self.both().numbers(now)
            }

            fn reference(&self, update: &mut Update<'_>) {
                self.both().reference(update);
            }

            fn check(&self) -> Result<(), Problem> {
                check_share("the first beta", self.betas.0)?;
                check_share("the second beta", self.betas.1)?;
                check_number("eps", self.eps)
            }
        }
    };
}

rule!(AdamConfig, "adam", false);
rule!(AdamWConfig, "adamw", true);
