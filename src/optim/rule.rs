//! The mathematics of an optimizer: what [`Stepper`](super::Stepper) runs over a store.

use std::fmt;

use crate::error::Problem;
use crate::kernel::Shader;
use crate::plan::complete;
use crate::shader::Item;
use crate::shape::Shape;

/// Host numbers of a rule: four vectors in its shaders, `factor(at)` to `factor(at + 3u)`.
pub type Numbers = [f64; 16];

/// What a rule's numbers depend on besides its configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// The learning rate of this step and group.
    pub lr: f64,
    /// The weight decay of the group.
    pub weight_decay: f64,
    /// The momentum (for rules with betas: the first one) where a schedule gives it.
    pub momentum: Option<f64>,
}

/// What a rule keeps for each scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its name in checkpoints.
    pub name: &'static str,
    /// True if it is never below 0, as a mean of squares: a file where it is, is damaged.
    pub never_negative: bool,
}

impl Moment {
    /// One that may be any number. It is 0 before the first update.
    pub const fn new(name: &'static str) -> Moment {
        Moment { name, never_negative: false }
    }

    /// One that is never below 0.
    pub const fn square(name: &'static str) -> Moment {
        Moment { name, never_negative: true }
    }
}

/// What a rule does besides going over the scalars.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// Nothing.
    Nothing,
    /// Means of squares over rows and columns (Adafactor).
    Factors,
    /// So many rounds that make a matrix orthogonal (Muon).
    Orthogonal(usize),
}

/// The average of the weights that a rule keeps, or that follows from what it keeps: theta + share (moment - theta).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averaged {
    /// The number of the moment.
    pub moment: usize,
    /// Its share; 1 where the moment is the average.
    pub share: f64,
}

/// The update of one parameter in f64, as the reference does it.
pub struct Update<'a> {
    /// What [`Rule::numbers`] gave.
    pub numbers: &'a Numbers,
    /// The number of this update of the parameter, from 1.
    pub count: u64,
    /// What [`Rule::kept`] names, 0 before the first update.
    pub kept: &'a mut [f64; 4],
    /// The parameter's shape.
    pub shape: Shape,
    /// The parameter.
    pub values: &'a mut [f64],
    /// Its gradient, clipped.
    pub gradients: &'a [f64],
    /// What [`Rule::moments`] names, each as long as the parameter (or as the rule says).
    pub moments: &'a mut [&'a mut [f64]],
}

impl Update<'_> {
    /// Goes over the scalars: `each` takes value, gradient and moments, changes the moments in place, and gives the new
    /// value.
    pub fn each<const N: usize>(&mut self, mut each: impl FnMut(f64, f64, &mut [f64; N]) -> f64) {
        for (i, value) in self.values.iter_mut().enumerate() {
            let mut own = std::array::from_fn(|k| self.moments[k][i]);
            *value = each(*value, self.gradients[i], &mut own);
            self.moments.iter_mut().zip(own).for_each(|(moment, own)| moment[i] = own);
        }
    }
}

/// The mathematics of an optimizer: one update of a parameter.
///
/// A rule of your own is one `impl` and one shader; `tests/rules.rs` has one in sixty lines. A shader may be a text
/// (`"..".into()`), which declares
///
/// - bindings 0 `theta`, 1 `gradients`, then the moments in their order, arrays of `V`, a vector of floats of which
///   `part(x, k)` are `PARTS` times four and `joined(parts)` is the reverse;
/// - a struct `Factors`, and `factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors`, which makes it from
///   [`Rule::numbers`] (`factor(at)` and the three after it), [`Rule::correction`] and, if the rule measures, the sums
///   over the parameter;
/// - `apply(i: u32, clip: f32, f: Factors)`, the update of vector `i`. It takes the gradient through
///   `adjust(part(gradients[i], k), x, clip)`, with `x` the parameter: there clipping and penalties are done.
pub trait Rule: fmt::Debug + Send + Sync + 'static {
    /// Name for dumps and checkpoints.
    fn name(&self) -> &'static str;
    /// The learning rate to begin with.
    fn lr(&self) -> f64;
    /// Weight decay, for groups that have none of their own.
    fn weight_decay(&self) -> f64 {
        0.0
    }
    /// What is kept for each scalar.
    fn moments(&self) -> Vec<Moment> {
        vec![]
    }
    /// The shape that the moment with this number has for a parameter of `shape`; `None` if there is none for it. The
    /// parameter's own, unless a rule says otherwise.
    #[doc(hidden)]
    fn moment_shape(&self, _moment: usize, shape: Shape) -> Option<Shape> {
        Some(shape)
    }
    /// Why it cannot update a parameter of this shape, if so.
    ///
    /// # Errors
    /// What is wrong with it.
    fn takes(&self, _shape: &Shape) -> Result<(), Problem> {
        Ok(())
    }
    /// What it does besides going over the scalars.
    #[doc(hidden)]
    fn beside(&self) -> Beside {
        Beside::Nothing
    }
    /// Of a rule that makes matrices orthogonal: the factor of the rate of a parameter of this shape.
    #[doc(hidden)]
    fn ratio(&self, _shape: &Shape) -> f64 {
        1.0
    }
    /// Names of what is kept for each parameter besides its count of updates; at most four, 0 before the first update.
    fn kept(&self) -> &'static [&'static str] {
        &[]
    }
    /// The shader of the update.
    fn shader(&self) -> Shader;
    /// What depends on the number of updates, which only the device knows: `fn correction(at: u32, count: u32, kept:
    /// vec4<f32>) -> Corrected`, with `Corrected(corrected, kept)` what `factors_at` takes and what is kept from now on.
    /// `factor(at)` gives host numbers as in [`Rule::shader`], `count` begins with 1, and `one_minus_power(log, count)` is
    /// 1 - b^count for b in [0, 1) with `log.x + log.y` its logarithm. `None`: ones.
    fn correction(&self) -> Option<Shader> {
        None
    }
    /// True if `apply` needs sums over the whole parameter. The shader then has `measure(i, clip, f) -> vec2<f32>` too, what
    /// vector `i` adds to them; it runs over the whole parameter first, may change the moments, and sees sums of 0. Behind a
    /// parameter's end there may be anything: `inside(i, k)` tells which of the four elements of part `k` are the
    /// parameter's.
    fn measures(&self) -> bool {
        false
    }
    /// The average of the weights that it keeps, if it does, for [`Stepper::averaged`](super::Stepper::averaged).
    fn averaged(&self, _now: &Now) -> Option<Averaged> {
        None
    }
    /// Host numbers of a step.
    fn numbers(&self, now: &Now) -> Numbers;
    /// The update in f64.
    fn reference(&self, update: &mut Update<'_>);
    /// The setting that cannot be used, if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self) -> Result<(), Problem>;
}

/// How `apply` of an elementwise rule, and its `measure`, treat the moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// They become what comes out.
    Yes,
    /// They are read alone.
    No,
}

/// A shader whose mathematics are `fn moved(x, g, old, f) -> Moved` for four elements with parameter x, gradient g (adjusted)
/// and moments `old`: `Moved(x, kept)` with the new ones. `Moments` has the moments of these names.
pub(super) fn elementwise(mathematics: Shader, moments: &[&'static str]) -> Shader {
    let shader = vectors(mathematics, moments);
    let shader = shader.item(Item::new("Moved", "struct $Moved$ {\n    x: vec4<f32>,\n    kept: $Moments$,\n}\n"));
    shader.item(Item::new("apply", apply(moments, Writes::Yes)))
}

/// The same for a rule that measures first, by `fn observed(x, g, old, f) -> Observed`: `Observed(first, second, kept)` with what
/// four elements add to the two sums, and the moments, which are changed there or in `moved`.
pub(super) fn elementwise_measured(mathematics: Shader, moments: &[&'static str], in_measure: Writes) -> Shader {
    let shader = vectors(mathematics, moments);
    let observed = "struct $Observed$ {\n    first: vec4<f32>,\n    second: vec4<f32>,\n    kept: $Moments$,\n}\n";
    let moved = "struct $Moved$ {\n    x: vec4<f32>,\n    kept: $Moments$,\n}\n";
    let in_apply = if in_measure == Writes::Yes { Writes::No } else { Writes::Yes };
    let shader = shader.item(Item::new("Observed", observed)).item(Item::new("Moved", moved));
    let shader = shader.item(Item::new("apply", apply(moments, in_apply)));
    shader.item(Item::new("measure", measure(moments, in_measure)))
}

/// A shader that binds arenas of these names from 0 on, all but `gradients` writable.
pub(super) fn arenas(shader: Shader, names: &[&'static str]) -> Shader {
    let bind = |shader: Shader, (&name, binding): (&&'static str, u32)| {
        shader.bound(binding, name != "gradients", name, "$V$")
    };
    names.iter().zip(0..).fold(shader, bind)
}

/// Bindings and the struct of the moments, which has a member more where there are none.
fn vectors(shader: Shader, moments: &[&'static str]) -> Shader {
    let names = ["theta".to_string(), "gradients".to_string()].into_iter();
    let names = names.chain(moments.iter().map(|name| format!("{name}_values")));
    let shader = names.zip(0..).fold(shader, |shader, (name, binding)| {
        let write = name != "gradients";
        shader.bound(binding, write, name, "$V$")
    });
    let members = match moments {
        [] => "    none: vec4<f32>,\n".into(),
        _ => moments.iter().map(|name| format!("    {name}: vec4<f32>,\n")).collect::<String>(),
    };
    shader.item(Item::new("Moments", format!("struct $Moments$ {{\n{members}}}\n")))
}

/// The lines that load a vector of each arena, and the moments of its part k.
fn loads(moments: &[&'static str]) -> (String, String) {
    let load = |name: &&str| format!("    let old_{name} = ${name}_values$[i];\n");
    let part = |name: &&str| format!("$part$(old_{name}, k)");
    let lines: String = "    let old = $theta$[i];\n    let gradient = $gradients$[i];\n".to_string();
    let parts: Vec<String> = moments.iter().map(part).collect();
    let parts = if parts.is_empty() { "vec4<f32>(0.0)".into() } else { parts.join(", ") };
    (lines + &moments.iter().map(load).collect::<String>(), parts)
}

/// The lines that declare, fill and store new moments.
fn stores(moments: &[&'static str], from: &str) -> [String; 3] {
    let each = |line: &dyn Fn(&str) -> String| moments.iter().map(|name| line(name)).collect::<String>();
    [
        each(&|name| format!("    var new_{name}: array<vec4<f32>, $PARTS$>;\n")),
        each(&|name| format!("        new_{name}[k] = {from}.kept.{name};\n")),
        each(&|name| format!("    ${name}_values$[i] = $joined$(new_{name});\n")),
    ]
}

fn apply(moments: &[&'static str], writes: Writes) -> String {
    let (lines, parts) = loads(moments);
    let [declare, fill, store] = stores(if writes == Writes::Yes { moments } else { &[] }, "result");
    format!(
        "fn $apply$(i: u32, clip: f32, f: $Factors$) {{
{lines}    var x: array<vec4<f32>, $PARTS$>;
{declare}    for (var k = 0u; k < $PARTS$; k++) {{
        let own = $part$(old, k);
        let result = $moved$(own, $adjust$($part$(gradient, k), own, clip), $Moments$({parts}), f);
        x[k] = result.x;
{fill}    }}
{store}    $theta$[i] = $joined$(x);
}}
"
    )
}

fn measure(moments: &[&'static str], writes: Writes) -> String {
    let (lines, parts) = loads(moments);
    let [declare, fill, store] = stores(if writes == Writes::Yes { moments } else { &[] }, "seen");
    format!(
        "fn $measure$(i: u32, clip: f32, f: $Factors$) -> vec2<f32> {{
{lines}    var sums = vec2<f32>(0.0);
{declare}    for (var k = 0u; k < $PARTS$; k++) {{
        let own = $part$(old, k);
        let seen = $observed$(own, $adjust$($part$(gradient, k), own, clip), $Moments$({parts}), f);
        let first = select(vec4<f32>(0.0), seen.first, $inside$(i, k));
        let second = select(vec4<f32>(0.0), seen.second, $inside$(i, k));
        sums += vec2<f32>(dot(first, vec4<f32>(1.0)), dot(second, vec4<f32>(1.0)));
{fill}    }}
{store}    return sums;
}}
"
    )
}

/// A correction with what it calls of the functions of pointwise expressions, whose logarithms and powers keep all digits where
/// drivers' do not.
pub(super) fn with_powers(correction: Shader) -> Shader {
    let kinds = [("F", "f32"), ("I", "i32"), ("U", "u32"), ("B", "bool")];
    let mut shader = kinds.into_iter().fold(correction, |shader, (name, kind)| shader.alias(name, kind));
    complete(&mut shader);
    shader
}

/// ln b in two parts for `one_minus_power`: the first has twelve bits, so that counts below 4096 multiply it exactly.
pub(super) fn logarithm(b: f64) -> [f64; 2] {
    let log = b.ln().max(-100.0);
    let high = f64::from(f32::from_bits((log as f32).to_bits() & !0xfff));
    [high, log - high]
}

/// Numbers as the vectors of the shader.
pub(super) fn numbers(vectors: [[f64; 4]; 4]) -> Numbers {
    std::array::from_fn(|i| vectors[i / 4][i % 4])
}
