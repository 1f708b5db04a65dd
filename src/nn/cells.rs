//! Single steps of recurrent layers.

use super::recurrent::RecurrentWeights;
use crate::error::Problem;
use crate::params::Path;
use crate::tensor::Tensor;

/// A step of [`super::Rnn`], as `torch.nn.RNNCell`. Made of ordinary ops, so it has gradients of any order.
#[derive(Debug, Clone)]
pub struct RnnCell {
    /// Of one layer.
    pub weights: RecurrentWeights,
    relu: bool,
}

/// A step of [`super::Gru`], as `torch.nn.GRUCell`. Made of ordinary ops, so it has gradients of any order.
#[derive(Debug, Clone)]
pub struct GruCell {
    /// Of one layer.
    pub weights: RecurrentWeights,
}

/// A step of [`super::Lstm`], as `torch.nn.LSTMCell`. Made of ordinary ops, so it has gradients of any order.
#[derive(Debug, Clone)]
pub struct LstmCell {
    /// Of one layer.
    pub weights: RecurrentWeights,
}

/// `x` times the weight of the inputs and `h` times that of the state, in `parts` parts each.
#[track_caller]
fn products(
    op: &'static str,
    weights: &RecurrentWeights,
    [x, h]: [&Tensor; 2],
    parts: usize,
) -> Result<[Vec<Tensor>; 2], Tensor> {
    if let Some(broken) = [x, h].into_iter().find(|given| given.error().is_some()) {
        return Err(broken.clone());
    }
    let hidden = weights.weight_hh.shape().map_or(0, |shape| shape[1]);
    if x.dims().rank() != 2 || h.dims()[..] != [x.dims()[0], hidden] {
        let what = format!("an input of shape {} and a state of shape {}", x.dims(), h.dims());
        return Err(x.problem(op, Problem::Shape(what, "pass [batch, inputs] and [batch, hidden]")));
    }
    let split = |product: Tensor| match product.error() {
        Some(_) => Err(product),
        None => Ok(product.split(1, &vec![hidden; parts])),
    };
    Ok([split(weights.of_inputs(x))?, split(weights.of_state(h))?])
}

impl RnnCell {
    /// From `inputs` to `hidden` features, with tanh.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, hidden: usize, bias: bool) -> RnnCell {
        RnnCell { weights: RecurrentWeights::new(path, 1, [inputs, hidden], bias, ""), relu: false }
    }

    /// With `max(.., 0)` for tanh.
    #[track_caller]
    pub fn relu(path: &Path, inputs: usize, hidden: usize, bias: bool) -> RnnCell {
        RnnCell { relu: true, ..RnnCell::new(path, inputs, hidden, bias) }
    }

    /// The state after `h` `[batch, hidden]` on an input `x` `[batch, inputs]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] where a shape does not fit.
    #[track_caller]
    pub fn step(&self, x: &Tensor, h: &Tensor) -> Tensor {
        match products("rnn_cell", &self.weights, [x, h], 1) {
            Ok([x, h]) if self.relu => (&x[0] + &h[0]).relu(),
            Ok([x, h]) => (&x[0] + &h[0]).tanh(),
            Err(broken) => broken,
        }
    }
}

impl GruCell {
    /// From `inputs` to `hidden` features.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, hidden: usize, bias: bool) -> GruCell {
        GruCell { weights: RecurrentWeights::new(path, 3, [inputs, hidden], bias, "") }
    }

    /// The state after `h` `[batch, hidden]` on an input `x` `[batch, inputs]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] where a shape does not fit.
    #[track_caller]
    pub fn step(&self, x: &Tensor, h: &Tensor) -> Tensor {
        let [of_x, of_h] = match products("gru_cell", &self.weights, [x, h], 3) {
            Ok(products) => products,
            Err(broken) => return broken,
        };
        let [r, z] = [0, 1].map(|k| (&of_x[k] + &of_h[k]).sigmoid());
        let n = (&of_x[2] + r * &of_h[2]).tanh();
        &n + z * (h - &n)
    }
}

impl LstmCell {
    /// From `inputs` to `hidden` features.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, hidden: usize, bias: bool) -> LstmCell {
        LstmCell { weights: RecurrentWeights::new(path, 4, [inputs, hidden], bias, "") }
    }

    /// The states h and c after `h` and `c`, both `[batch, hidden]`, on an input `x` `[batch, inputs]`.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Shape`] where a shape does not fit.
    #[track_caller]
    pub fn step(&self, x: &Tensor, h: &Tensor, c: &Tensor) -> (Tensor, Tensor) {
        let [of_x, of_h] = match products("lstm_cell", &self.weights, [x, h], 4) {
            Ok(products) => products,
            Err(broken) => return (broken.clone(), broken),
        };
        let sum = |k: usize| &of_x[k] + &of_h[k];
        let c = sum(1).sigmoid() * c + sum(0).sigmoid() * sum(2).tanh();
        (sum(3).sigmoid() * c.tanh(), c)
    }
}
