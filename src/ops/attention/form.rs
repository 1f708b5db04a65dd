//! What an attention's kernels and its reference know besides the tensors: scale, cap, who sees whom, dropout.

use crate::array::Array;
use crate::kernel::{Binding, Kernel};
use crate::layout::Meta;
use crate::ops::rows::{EXP_DOWN, lane_functions};
use crate::ops::shared::with_functions;
use crate::rng::word;
use crate::shader::{Item, Shader, params};
use crate::shaders::attention::ROW;
use crate::shaders::pointwise::PHILOX;
use crate::shape::MAX_RANK;

/// What the scores of an attention become, and which of them count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Form {
    /// What products of queries and keys are multiplied by.
    pub scale: f64,
    /// Scores are kept within this by its tanh.
    pub cap: Option<f64>,
    /// Query i sees keys from i - `left` on.
    pub left: Option<usize>,
    /// Query i sees keys up to i + `right`.
    pub right: Option<usize>,
    /// Whether there is a mask among the inputs.
    pub mask: bool,
    /// Whether there are lengths.
    pub lengths: bool,
    /// Share of the weights that are zeroed; 0: there is no counter among the inputs.
    pub dropout: f64,
}

impl Form {
    /// As words of an op's attributes.
    pub(super) fn words(&self, words: &mut Vec<u64>) {
        let band = [self.left, self.right].map(|side| side.map_or(0, |side| side as u64 + 1));
        words.extend([self.scale.to_bits(), self.cap.map_or(0, f64::to_bits), self.dropout.to_bits()]);
        words.extend(band);
        words.extend([u64::from(self.mask) << 1 | u64::from(self.lengths)]);
    }

    /// Words below this are zeroed, and what the other weights are multiplied by.
    pub(super) fn dropping(&self) -> (u32, f64) {
        ((self.dropout * 4_294_967_296.0) as u32, 1.0 / (1.0 - self.dropout))
    }
}

/// An attention, or its gradient, as its kernels see it.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub form: Form,
    pub inputs: Vec<Meta>,
    /// Number of the first input that is no operand: of the mask, the lengths, the counter.
    pub others: usize,
    /// Batches and heads of the queries.
    pub planes: usize,
    /// Planes of queries for one of keys and values.
    pub groups: usize,
    pub queries: usize,
    pub keys: usize,
    pub features: usize,
    pub values: usize,
}

params! {
    /// Sizes of a block of scores and what its rows see.
    pub(super) struct Sizes {
        planes, queries, keys, groups,
        /// Of the block, and where it begins.
        rows, columns, first_query, first_key,
        /// Rows and columns that were in another block.
        fresh_rows, fresh_columns,
        /// 1: no block of these rows came before.
        is_first,
        left, right,
        mask_query, mask_key,
        /// Planes that share a length.
        length_planes,
        threshold: u32,
        /// Zero: keeps compilers from folding a NaN into the text, which WGSL forbids.
        zero,
        scale: f32, cap: f32, kept: f32,
        features, values,
        unused,
        /// Axes of the planes, innermost first: length, stride of the mask.
        axes: [[u32; 4]; MAX_RANK],
    }
}

impl Site {
    /// Of inputs of rules that hold.
    pub fn new(form: Form, inputs: &[Meta], others: usize) -> Site {
        let [q, k, v] = [0, 1, 2].map(|input| inputs[input].shape);
        let rank = q.rank();
        let planes = |shape: &[usize]| shape[..rank - 2].iter().product::<usize>();
        Site {
            form,
            inputs: inputs.to_vec(),
            others,
            planes: planes(&q),
            groups: planes(&q) / planes(&k).max(1),
            queries: q[rank - 2],
            keys: k[rank - 2],
            features: q[rank - 1],
            values: v[rank - 1],
        }
    }

    /// Numbers of the inputs with the mask, the lengths and the counter.
    pub fn extras(&self) -> [Option<usize>; 3] {
        let mut next = self.others;
        [self.form.mask, self.form.lengths, self.form.dropout > 0.0].map(|is_there| {
            next += usize::from(is_there);
            is_there.then(|| next - 1)
        })
    }

    /// Strides of the mask: of the axes of planes, outermost first, then of queries and keys.
    fn mask_strides(&self) -> Vec<usize> {
        let rank = self.inputs[0].shape.rank();
        let Some(mask) = self.extras()[0] else { return vec![0; rank] };
        let shape = self.inputs[mask].shape;
        let (strides, missing) = (shape.strides(), rank - shape.rank());
        (0..rank)
            .map(|axis| match axis.checked_sub(missing) {
                Some(own) if shape[own] > 1 => strides[own],
                _ => 0,
            })
            .collect()
    }

    /// Planes for one length.
    fn length_planes(&self) -> usize {
        self.planes / self.extras()[1].map_or(1, |input| self.inputs[input].elements())
    }

    /// The sizes of the whole.
    pub fn sizes(&self) -> Sizes {
        let strides = self.mask_strides();
        let rank = strides.len();
        let mut axes = [[1, 0, 0, 0]; MAX_RANK];
        for (own, axis) in (0..rank - 2).rev().zip(&mut axes) {
            *axis = [self.inputs[0].shape[own] as u32, strides[own] as u32, 0, 0];
        }
        let (threshold, kept) = self.form.dropping();
        Sizes {
            planes: self.planes,
            queries: self.queries,
            keys: self.keys,
            groups: self.groups,
            rows: self.queries,
            columns: self.keys,
            first_query: 0,
            first_key: 0,
            fresh_rows: 0,
            fresh_columns: 0,
            is_first: 1,
            // What reaches past the ends reaches the ends.
            left: self.form.left.map_or(self.queries, |left| left.min(self.queries)),
            right: self.form.right.map_or(self.keys, |right| right.min(self.keys)),
            mask_query: strides[rank - 2],
            mask_key: strides[rank - 1],
            length_planes: self.length_planes(),
            threshold,
            zero: 0,
            scale: self.form.scale as f32,
            cap: self.form.cap.unwrap_or(1.0) as f32,
            kept: kept as f32,
            features: self.features,
            values: self.values,
            unused: 0,
            axes,
        }
    }

    /// Keys that queries from `first` to before `end` may see: the first, and one past the last.
    pub fn span(&self, first: usize, end: usize) -> [usize; 2] {
        let low = self.form.left.map_or(0, |left| first.saturating_sub(left));
        let high = self.form.right.map_or(self.keys, |right| (end + right).min(self.keys));
        [low.min(high), high]
    }

    /// The functions that `attention/row.wgsl` asks for, for `lanes` keys side by side.
    pub fn shader(&self, lanes: usize) -> Shader {
        let form = &self.form;
        let mut shader = in_lanes(lanes);
        let function = |name: &'static str, takes: &str, gives: &str, body: &str| {
            Item::new(name, format!("fn ${name}$({takes}) -> {gives} {{\n    {body}\n}}\n"))
        };
        // The same of each lane.
        let each = |kind: &str, of: &dyn Fn(&str) -> String| match lanes {
            4 => format!("{kind}({})", ["keys.x", "keys.y", "keys.z", "keys.w"].map(of).join(", ")),
            _ => of("keys"),
        };
        let taken = "row: $Row$, keys: $U$";
        let [mask, lengths, counter] = self.extras();
        let at = |key: &str| format!("$mask$[row.mask + {key} * $p$.mask_key]");
        let is_bool = mask.is_some_and(|input| !self.inputs[input].dtype.is_float());
        let all = || "keys == keys".to_string();
        let none = || "$F$(0.0)".to_string();
        let (shown, bias) = match (mask, is_bool) {
            (Some(_), true) => (each("$B$", &|key| format!("({} != 0u)", at(key))), none()),
            (Some(_), false) => (all(), each("$F$", &|key| at(key))),
            (None, _) => (all(), none()),
        };
        let start = match mask {
            Some(_) => {
                let axes = self.inputs[0].shape.rank() - 2;
                format!(
                    "var at = query * $p$.mask_query;\n    var left = plane;\n    for (var axis = 0u; axis < {axes}u; axis++) {{\n        \
                     let rest = left / $p$.axes[axis].x;\n        at += (left - rest * $p$.axes[axis].x) * $p$.axes[axis].y;\n        \
                     left = rest;\n    }}\n    return at;"
                )
            }
            None => "return 0u;".into(),
        };
        let length = match lengths {
            Some(_) => "return $lengths$[plane / $p$.length_planes];",
            None => "return $p$.keys;",
        };
        let (capped, slope) = match form.cap {
            Some(_) => (
                "return $p$.cap * $tanh_full$(x / $p$.cap);",
                "let t = $tanh_full$(x / $p$.cap);\n    return $F$(1.0) - t * t;",
            ),
            None => ("return x;", "return $F$(1.0);"),
        };
        let word = |k: usize| format!("$counter$[{k}]");
        let words = |of: &dyn Fn(usize) -> String| [0, 1, 2, 3].map(of).join(", ");
        let drawn = match lanes {
            // Four from a multiple of four come from one block of words.
            4 if self.keys.is_multiple_of(4) => {
                let four = words(&|k| format!("$U$({})", word(k)));
                format!("$random_bits4$(row.weights + keys, {four})")
            }
            _ => each("$U$", &|key| format!("$random_bits1$(row.weights + {key}, {})", words(&word))),
        };
        let factor = match counter {
            Some(_) => format!("select($F$(0.0), $F$($p$.kept), {drawn} >= $U$($p$.threshold))"),
            None => "$F$(1.0)".to_string(),
        };
        if form.cap.is_some() {
            shader = with_functions(shader, &["tanh_full"]);
        }
        if counter.is_some() {
            shader = shader.file(&PHILOX);
        }
        shader
            .file(EXP_DOWN)
            .file(&ROW)
            .item(function("length_of", "plane: u32", "u32", length))
            .item(function("mask_start", "plane: u32, query: u32", "u32", &start))
            .item(function("shown", taken, "$B$", &format!("return {shown};")))
            .item(function("bias", taken, "$F$", &format!("return {bias};")))
            .item(function("capped", "x: $F$", "$F$", capped))
            .item(function("cap_slope", "x: $F$", "$F$", slope))
            .item(function("factor", taken, "$F$", &format!("return {factor};")))
    }

    /// Binds what the functions of [`Site::shader`] read.
    pub fn bind(&self, kernel: &mut Kernel) {
        let [mask, lengths, counter] = self.extras();
        if let Some(input) = mask {
            let element = if self.inputs[input].dtype.is_float() { "f32" } else { "u32" };
            kernel.bind(Binding::input(input), "mask", element);
        }
        if let Some(input) = lengths {
            kernel.bind(Binding::input(input), "lengths", "u32");
        }
        if let Some(input) = counter {
            kernel.bind(Binding::input(input), "counter", "u32");
        }
    }

    /// Number of the plane of keys for one of queries.
    pub fn key_plane(&self, plane: usize) -> usize {
        plane / self.groups
    }
}

/// Values of so many keys side by side: `F`, `U`, `B`, and functions over them.
pub(super) fn in_lanes(lanes: usize) -> Shader {
    let shader = lane_functions(lanes, lanes == 4);
    let kinds = [("F", "f32"), ("I", "i32"), ("U", "u32"), ("B", "bool")];
    let kind = |kind: &str| if lanes == 4 { format!("vec4<{kind}>") } else { kind.into() };
    kinds.into_iter().fold(shader, |shader, (name, of)| shader.alias(name, kind(of)))
}

/// What one query sees, for the reference.
pub(super) struct Sight<'a> {
    site: &'a Site,
    inputs: &'a [&'a Array],
    strides: Vec<usize>,
    /// The seed and the number of the draw.
    draw: (u64, u64),
}

/// A score that counts.
pub(super) struct Score {
    pub value: f64,
    /// Of the cap, there.
    pub slope: f64,
    /// Dropout's.
    pub factor: f64,
}

impl<'a> Sight<'a> {
    pub fn new(site: &'a Site, inputs: &'a [&'a Array]) -> Sight<'a> {
        let word = |input: usize, k: usize| inputs[input].data[k] as u64;
        let pair = |input: usize, k: usize| word(input, k) | word(input, k + 1) << 32;
        let draw = site.extras()[2].map_or((0, 0), |input| (pair(input, 0), pair(input, 2)));
        Sight { site, inputs, strides: site.mask_strides(), draw }
    }

    /// The score of a query and a key, if it counts.
    pub fn score(&self, plane: usize, i: usize, j: usize) -> Option<Score> {
        let Site { form, queries, keys, features, .. } = *self.site;
        if form.left.is_some_and(|left| j + left < i) || form.right.is_some_and(|right| j > i.saturating_add(right)) {
            return None;
        }
        let [mask, lengths, counter] = self.site.extras();
        if let Some(input) = lengths
            && j as f64 >= self.inputs[input].data[plane / self.site.length_planes()]
        {
            return None;
        }
        let rank = self.strides.len();
        let mask = mask.map(|input| {
            let mut at = i * self.strides[rank - 2] + j * self.strides[rank - 1];
            let mut rest = plane;
            for axis in (0..rank - 2).rev() {
                let length = self.inputs[0].shape[axis];
                at += rest % length * self.strides[axis];
                rest /= length;
            }
            (self.inputs[input].dtype.is_float(), self.inputs[input].data[at])
        });
        if mask == Some((false, 0.0)) {
            return None;
        }
        let q = &self.inputs[0].data[(plane * queries + i) * features..][..features];
        let k = &self.inputs[1].data[(self.site.key_plane(plane) * keys + j) * features..][..features];
        let product = q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * form.scale;
        let tanh = form.cap.map(|cap| (product / cap).tanh());
        let capped = form.cap.zip(tanh).map_or(product, |(cap, tanh)| cap * tanh);
        let factor = counter.map_or(1.0, |_| {
            let (threshold, kept) = form.dropping();
            let index = (plane * queries + i) * keys + j;
            if word(self.draw.0, self.draw.1, index as u32) >= threshold { kept } else { 0.0 }
        });
        let added = mask.filter(|mask| mask.0).map_or(0.0, |mask| mask.1);
        Some(Score { value: capped + added, slope: tanh.map_or(1.0, |tanh| 1.0 - tanh * tanh), factor })
    }

    /// Those of a row: (key, score).
    pub fn row(&self, plane: usize, i: usize) -> Vec<(usize, Score)> {
        (0..self.site.keys).filter_map(|j| Some((j, self.score(plane, i, j)?))).collect()
    }
}
