//! The mathematics of an optimizer: what [`Stepper`](super::Stepper) runs over a store.

use super::settings::Settings;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::shader::File;

/// Numbers of a rule for the parameters with one count of updates: two vectors in the shader.
pub type Factors = [f64; 8];

/// How a rule's factors depend on the number of updates, which only the device knows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// WGSL of `fn correction(constants: vec4<f32>, count: u32) -> vec2<f32>`: what the rule's shader needs besides the
    /// factors of t = infinity to form those of update number `count`, from 1. It may call `one_minus_power(log, count)`,
    /// 1 - b^count for b in [0, 1) with `log.x + log.y` its logarithm.
    pub wgsl: &'static str,
    /// Numbers that it takes.
    pub constants: [f64; 4],
}

/// The shader of a rule in `file`, which keeps arenas of these names.
pub(super) fn shader(file: &File, kept: &[&'static str]) -> Shader {
    let names = [("theta", true), ("gradients", false)].into_iter().chain(kept.iter().map(|&name| (name, true)));
    names
        .zip(0..)
        .fold(Shader::of(&[file]), |shader, ((name, write), binding)| shader.bound(binding, write, name, "$V$"))
}

/// The mathematics of an optimizer, an element at a time.
pub trait Rule: Send + Sync + 'static {
    /// Name for dumps and checkpoints.
    fn name(&self) -> &'static str;
    /// What every optimizer has.
    fn settings(&self) -> Settings<'_>;
    /// Changes the learning rate.
    fn set_lr(&mut self, lr: f64);
    /// Names of what is kept for each scalar (at most two).
    fn moments(&self) -> &'static [&'static str];
    /// True for one of [`Rule::moments`] that is never below 0, as a mean of squares: a file where it is, is damaged.
    fn is_never_negative(&self, moment: &str) -> bool;
    /// The shader of a rule (see `shaders/optim/adamw.wgsl`), a `&'static str` for one of your own. It declares bindings 0 `theta`,
    /// 1 `gradients`, 2 and 3 moments, arrays of `V`; a struct `Factors` with `factors_at(at, correction)`, which calls
    /// `factor(at)` for a vector of four and takes what [`Correction::wgsl`] gave; `apply(i, clip, factors)`, the update of
    /// vector `i` of type `V`, of which `part(x, k)` are `PARTS` times four floats and `joined(parts)` is the reverse.
    fn shader(&self) -> impl Into<Shader>;
    /// How the factors depend on the number of updates; `None` if they do not.
    fn correction(&self) -> Option<Correction>;
    /// Factors for parameters with so many updates before this one.
    fn factors(&self, lr: f64, weight_decay: f64, updates: u64) -> Factors;
    /// The update of one scalar in f64: its new value, with the moments changed in place.
    fn reference(&self, factors: &Factors, value: f64, gradient: f64, moments: &mut [f64; 2]) -> f64;
    /// The setting that cannot be used, if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Problem>;
}
