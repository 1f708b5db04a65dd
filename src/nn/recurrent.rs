//! Recurrent layers.

use super::module::{Mode, Module, bias_init, bias_like, placed};
use super::projected::projected;
use crate::error::Problem;
use crate::ops::recurrent::{Cell, RecurrenceOptions};
use crate::params::{Param, Path};
use crate::rng::Draws;
use crate::tensor::Tensor;

/// What is not the same for every recurrent layer. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecurrentConfig {
    /// Layers, each over the outputs of the one before.
    pub layers: usize,
    /// Whether biases are added.
    pub bias: bool,
    /// Inputs and outputs are `[batch, steps, features]`, else `[steps, batch, features]`. States never have the batch in front.
    pub batch_first: bool,
    /// Share of the outputs of each layer but the last that are zeroed while training.
    pub dropout: f64,
    /// Each layer also runs from the last step to the first, with weights of its own; both outputs stand side by side.
    pub bidirectional: bool,
}

impl Default for RecurrentConfig {
    fn default() -> Self {
        RecurrentConfig { layers: 1, bias: true, batch_first: false, dropout: 0.0, bidirectional: false }
    }
}

/// What goes with a batch of sequences. The default: states of zeros, all sequences as long as the input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sequences<'a> {
    /// Initial states `[layers * directions, batch, hidden]`: h, and c of an [`Lstm`].
    pub start: Option<&'a [Tensor]>,
    /// Steps of each sequence, u32 `[batch]`, as PyTorch's packed sequences have them: outputs behind them are 0, the last states are those at
    /// the length, and the way back begins there. A length beyond the steps is all of them.
    pub lengths: Option<&'a Tensor>,
}

/// What a recurrent layer gives.
#[derive(Debug, Clone)]
pub struct RecurrentOutput {
    /// h of the last layer at every step: `[steps, batch, directions * hidden]`, or with the batch in front.
    pub output: Tensor,
    /// Last states `[layers * directions, batch, hidden]`: h, and c of an [`Lstm`]; the initial ones of what comes next, detached or not.
    pub states: Vec<Tensor>,
}

/// The weights of one layer in one direction; `lines` is `hidden` for an [`Rnn`], `3 hidden` for a [`Gru`] (r, z, n), `4 hidden` for an
/// [`Lstm`] (i, f, g, o).
#[derive(Debug, Clone)]
pub struct RecurrentWeights {
    /// `[lines, inputs]`: `weight_ih_l0`, of the way back `weight_ih_l0_reverse`.
    pub weight_ih: Param,
    /// `[lines, hidden]`.
    pub weight_hh: Param,
    /// `[lines]`.
    pub bias_ih: Option<Param>,
    /// `[lines]`.
    pub bias_hh: Option<Param>,
    /// `[projection, hidden]`, of an [`Lstm::projected`]: then states h have `projection` features, and so has `weight_hh`.
    pub weight_hr: Option<Param>,
}

impl RecurrentWeights {
    /// With PyTorch's initial values, all within `1 / sqrt(hidden)`; `suffix` ends their names.
    #[track_caller]
    pub(super) fn new(
        path: &Path,
        lines: usize,
        [inputs, hidden]: [usize; 2],
        bias: bool,
        suffix: &str,
    ) -> RecurrentWeights {
        let init = bias_init(hidden);
        // A size that is too large stays so, and is the store's error.
        let lines = hidden.saturating_mul(lines);
        let bias = |name: &str| bias.then(|| path.param(format!("bias_{name}{suffix}"), &[lines], init));
        RecurrentWeights {
            weight_ih: path.param(format!("weight_ih{suffix}"), &[lines, inputs], init),
            weight_hh: path.param(format!("weight_hh{suffix}"), &[lines, hidden], init),
            bias_ih: bias("ih"),
            bias_hh: bias("hh"),
            weight_hr: None,
        }
    }

    /// With states h of `projection` features.
    #[track_caller]
    fn projected(
        path: &Path,
        lines: usize,
        [inputs, hidden, projection]: [usize; 3],
        bias: bool,
        suffix: &str,
    ) -> RecurrentWeights {
        let init = bias_init(hidden);
        let lines = hidden.saturating_mul(lines);
        let matrix = |name: &str, shape: [usize; 2]| path.param(format!("weight_{name}{suffix}"), &shape, init);
        let bias = |name: &str| bias.then(|| path.param(format!("bias_{name}{suffix}"), &[lines], init));
        RecurrentWeights {
            weight_ih: matrix("ih", [lines, inputs]),
            weight_hh: matrix("hh", [lines, projection]),
            bias_ih: bias("ih"),
            bias_hh: bias("hh"),
            weight_hr: Some(matrix("hr", [projection, hidden])),
        }
    }

    /// `x` `[.., inputs]` times the weight of the inputs, with its bias.
    #[track_caller]
    pub(super) fn of_inputs(&self, x: &Tensor) -> Tensor {
        affine(x, &self.weight_ih, self.bias_ih.as_ref())
    }

    /// The same of a state.
    #[track_caller]
    pub(super) fn of_state(&self, h: &Tensor) -> Tensor {
        affine(h, &self.weight_hh, self.bias_hh.as_ref())
    }
}

#[track_caller]
fn affine(x: &Tensor, weight: &Param, bias: Option<&Param>) -> Tensor {
    let product = x.matmul(&weight.tensor().transpose(0, 1));
    match bias {
        Some(bias) => &product + bias_like(bias.tensor(), &product),
        None => product,
    }
}

/// Layers of one cell.
#[derive(Debug, Clone)]
struct Stack {
    cell: Cell,
    sizes: [usize; 2],
    /// Features of h, where they are not the hidden ones.
    projection: Option<usize>,
    config: RecurrentConfig,
    weights: Vec<RecurrentWeights>,
    draws: Draws,
}

impl Stack {
    #[track_caller]
    fn new(
        path: &Path,
        cell: Cell,
        [inputs, hidden]: [usize; 2],
        projection: Option<usize>,
        config: RecurrentConfig,
    ) -> Stack {
        let directions = 1 + usize::from(config.bidirectional);
        let mut weights = vec![];
        for layer in 0..config.layers {
            let inputs = if layer == 0 { inputs } else { projection.unwrap_or(hidden).saturating_mul(directions) };
            for suffix in ["", "_reverse"].into_iter().take(directions) {
                let suffix = format!("_l{layer}{suffix}");
                weights.push(match projection {
                    None => RecurrentWeights::new(path, cell.lines(), [inputs, hidden], config.bias, &suffix),
                    Some(width) => {
                        RecurrentWeights::projected(path, cell.lines(), [inputs, hidden, width], config.bias, &suffix)
                    }
                });
            }
        }
        Stack { cell, sizes: [inputs, hidden], projection, config, weights, draws: path.draws().clone() }
    }

    /// Features of a state: h, c.
    fn width(&self, state: usize) -> usize {
        self.projection.filter(|_| state == 0).unwrap_or(self.sizes[1])
    }

    /// What does not fit.
    fn check(&self, x: &Tensor, start: Option<&[Tensor]>) -> Result<(), Problem> {
        let inputs = self.sizes[0];
        let dims = x.dims();
        if self.config.layers == 0 {
            return Err(Problem::Value("no layers".into(), "use one or more"));
        }
        if dims.rank() != 3 || dims[2] != inputs {
            let what = format!("an input of shape {dims} for {inputs} features");
            return Err(Problem::Shape(
                what,
                "pass [steps, batch, features], or the batch first where the layer says so",
            ));
        }
        let batch = dims[usize::from(!self.config.batch_first)];
        let wanted = |state: usize| [self.weights.len(), batch, self.width(state)];
        let Some(start) = start else { return Ok(()) };
        let fits = start.iter().enumerate().all(|(number, state)| state.dims()[..] == wanted(number));
        if start.len() != self.cell.states() || !fits {
            let wanted: Vec<_> = (0..self.cell.states()).map(wanted).collect();
            let shapes: Vec<String> = start.iter().map(|state| state.dims().to_string()).collect();
            let what = format!("initial states {} where {wanted:?} are wanted", shapes.join(", "));
            return Err(Problem::Shape(what, "pass [layers * directions, batch, hidden] for each state"));
        }
        Ok(())
    }

    #[track_caller]
    fn run(&self, x: &Tensor, sequences: &Sequences<'_>, mode: Mode) -> RecurrentOutput {
        let all = |broken: Tensor| RecurrentOutput { states: vec![broken.clone(); self.cell.states()], output: broken };
        let mut given = std::iter::once(x).chain(sequences.start.into_iter().flatten()).chain(sequences.lengths);
        if let Some(broken) = given.find(|given| given.error().is_some()) {
            return all(broken.clone());
        }
        if x.dims().rank() == 2 {
            return self.run_one(x, sequences, mode);
        }
        if let Err(problem) = self.check(x, sequences.start) {
            return all(self.placed(x, x.problem(self.name(), problem)));
        }
        let device = x.device();
        let turned = |x: &Tensor| if self.config.batch_first { x.transpose(0, 1) } else { x.clone() };
        let mut output = turned(x);
        let batch = output.dims()[1];
        let directions = 1 + usize::from(self.config.bidirectional);
        let mut last = vec![vec![]; self.cell.states()];
        for layer in 0..self.config.layers {
            if layer > 0 && mode == Mode::Train && self.config.dropout != 0.0 {
                output = output.dropout(self.config.dropout, &self.draws);
            }
            let mut sides = vec![];
            for direction in 0..directions {
                let number = layer * directions + direction;
                let weights = &self.weights[number];
                let start: Vec<Tensor> = (0..self.cell.states())
                    .map(|state| match sequences.start {
                        Some(start) => start[state].slice_fixed(0, number, 1).reshape(&[batch, self.width(state)]),
                        None => device.zeros(&[batch, self.width(state)]),
                    })
                    .collect();
                let weight = weights.weight_hh.tensor();
                let bias = match &weights.bias_hh {
                    Some(bias) => bias.tensor(),
                    None => device.zeros(&[self.cell.lines() * self.sizes[1]]),
                };
                let options =
                    RecurrenceOptions { cell: self.cell, reverse: direction == 1, lengths: sequences.lengths };
                let products = weights.of_inputs(&output);
                let given = match &weights.weight_hr {
                    Some(projection) => projected(&products, [&weight, &bias, &projection.tensor()], &start, &options),
                    None => products.recurrence(&weight, &bias, &start, &options),
                };
                if given.output.error().is_some() {
                    return all(self.placed(x, given.output));
                }
                sides.push(given.output);
                last.iter_mut().zip(given.last).for_each(|(all, state)| all.push(state));
            }
            output = match &sides[..] {
                [one] => one.clone(),
                both => Tensor::concat(&both.iter().collect::<Vec<_>>(), 2),
            };
        }
        let stacked = |states: &Vec<Tensor>| Tensor::stack(&states.iter().collect::<Vec<_>>(), 0);
        RecurrentOutput { output: turned(&output), states: last.iter().map(stacked).collect() }
    }

    /// [`Stack::run`] of a sequence alone, `[steps, inputs]`, with states `[layers * directions, hidden]`.
    #[track_caller]
    fn run_one(&self, x: &Tensor, sequences: &Sequences<'_>, mode: Mode) -> RecurrentOutput {
        let batch = usize::from(!self.config.batch_first);
        let start: Option<Vec<Tensor>> =
            sequences.start.map(|start| start.iter().map(|state| state.unsqueeze(1)).collect());
        let sequences = Sequences { start: start.as_deref(), ..*sequences };
        let RecurrentOutput { output, states } = self.run(&x.unsqueeze(batch), &sequences, mode);
        let states = states.iter().map(|state| state.squeeze(1)).collect();
        RecurrentOutput { output: output.squeeze(batch), states }
    }

    /// `y`, whose error says in which layer it arose.
    #[track_caller]
    fn placed(&self, x: &Tensor, y: Tensor) -> Tensor {
        let [inputs, hidden] = self.sizes;
        match self.weights.first() {
            Some(first) => placed(x, y, &first.weight_ih, || format!("{} {inputs} -> {hidden}", self.name())),
            None => y,
        }
    }

    fn name(&self) -> &'static str {
        match self.cell {
            Cell::Tanh | Cell::Relu => "rnn",
            Cell::Gru => "gru",
            Cell::Lstm => "lstm",
        }
    }
}

macro_rules! layer {
    ($(#[$doc:meta])* $name:ident, $cell:expr) => {
        $(#[$doc])*
        ///
        /// Names, layouts, initial values (within `1 / sqrt(hidden)`) and the order of the lines are PyTorch's. The products of the inputs of
        /// all steps are one product. A second gradient through a layer is refused: its cell has one.
        #[derive(Debug, Clone)]
        pub struct $name(Stack);

        impl $name {
            /// From `inputs` to `hidden` features.
            #[track_caller]
            pub fn new(path: &Path, inputs: usize, hidden: usize, config: RecurrentConfig) -> $name {
                $name(Stack::new(path, $cell, [inputs, hidden], None, config))
            }

            /// Outputs and last states of sequences `[steps, batch, inputs]`, or with the batch in front where the layer says so; of one alone,
            /// `[steps, inputs]`, without that axis in results and states.
            ///
            /// # Errors
            /// The results carry [`crate::Error::Shape`] where a shape does not fit, [`crate::Error::DType`] unless lengths are u32,
            /// [`crate::Error::Value`] for no layers or a dropout outside of [0, 1].
            #[track_caller]
            pub fn run(&self, x: &Tensor, sequences: &Sequences<'_>, mode: Mode) -> RecurrentOutput {
                self.0.run(x, sequences, mode)
            }

            /// The weights of each layer, of the way back behind those of the way there.
            pub fn weights(&self) -> &[RecurrentWeights] {
                &self.0.weights
            }
        }

        impl Module for $name {
            /// The outputs alone, from states of zeros.
            #[track_caller]
            fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
                self.run(x, &Sequences::default(), mode).output
            }
        }
    };
}

layer! {
    /// Plain recurrent network, `h' = tanh(W x + b + U h + d)` (Elman 1990), as `torch.nn.RNN`.
    Rnn, Cell::Tanh
}

layer! {
    /// Gated recurrent unit (Cho and others 2014), as `torch.nn.GRU`: with `r, z = sigmoid(W x + b + U h + d)` and
    /// `n = tanh(W x + b + r (U h + d))`, `h' = (1 - z) n + z h`.
    Gru, Cell::Gru
}

layer! {
    /// Long short-term memory (Hochreiter and Schmidhuber 1997), as `torch.nn.LSTM`: with `i, f, o = sigmoid(W x + b + U h + d)` and
    /// `g = tanh(W x + b + U h + d)`, `c' = f c + i g` and `h' = o tanh(c')`.
    Lstm, Cell::Lstm
}

impl Rnn {
    /// With `max(.., 0)` for tanh (`nonlinearity="relu"` there).
    #[track_caller]
    pub fn relu(path: &Path, inputs: usize, hidden: usize, config: RecurrentConfig) -> Rnn {
        Rnn(Stack::new(path, Cell::Relu, [inputs, hidden], None, config))
    }
}

impl Lstm {
    /// With h projected to `projection` features after each step (Sak, Senior and Beaufays 2014; `proj_size` there): outputs and states h have
    /// so many, states c have `hidden`. Its steps are ordinary ops, so that it has gradients of any order, and its plan grows with the steps.
    #[track_caller]
    pub fn projected(path: &Path, inputs: usize, hidden: usize, projection: usize, config: RecurrentConfig) -> Lstm {
        Lstm(Stack::new(path, Cell::Lstm, [inputs, hidden], Some(projection), config))
    }
}
