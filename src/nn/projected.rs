//! The steps of an LSTM whose states are projected (Sak, Senior and Beaufays 2014), made of ordinary ops.

use crate::dtype::DType;
use crate::error::Problem;
use crate::ops::recurrent::{RecurrenceOptions, Recurrent};
use crate::tensor::Tensor;

/// Runs over the steps of `x` `[steps, rows, 4 hidden]`, the products of the inputs, as [`Tensor::recurrence`] does. `weight`
/// `[4 hidden, projection]`, `bias` `[4 hidden]` and `projection` `[projection, hidden]` are those of the state; `start` is h
/// `[rows, projection]` and c `[rows, hidden]`.
#[track_caller]
pub(super) fn projected(
    x: &Tensor,
    [weight, bias, projection]: [&Tensor; 3],
    start: &[Tensor],
    options: &RecurrenceOptions<'_>,
) -> Recurrent {
    let broken = |error: Tensor| Recurrent { last: vec![error.clone(); 2], output: error };
    if let Some(error) = [x, weight, bias, projection].into_iter().chain(start).find(|given| given.error().is_some()) {
        return broken(error.clone());
    }
    let (steps, rows, hidden) = (x.dims()[0], x.dims()[1], x.dims()[2] / 4);
    if let Some(lengths) = options.lengths.filter(|lengths| {
        lengths.error().is_none() && (lengths.meta().dtype != DType::U32 || lengths.dims()[..] != [rows])
    }) {
        let what = format!("lengths {} of shape {} for {rows} rows", lengths.meta().dtype, lengths.dims());
        return broken(x.problem("lstm", Problem::Shape(what, "pass one u32 for each row")));
    }
    let lengths = options.lengths.map(|lengths| lengths.reshape(&[rows, 1]));
    let [weight, projection] = [weight, projection].map(|matrix| matrix.transpose(0, 1));
    let (mut h, mut c) = (start[0].clone(), start[1].clone());
    let mut outputs = vec![h.clone(); steps];
    for turn in 0..steps {
        let step = if options.reverse { steps - 1 - turn } else { turn };
        let of_x = x.slice_fixed(0, step, 1).reshape(&[rows, 4 * hidden]);
        let lines = of_x + (h.matmul(&weight) + bias);
        if lines.error().is_some() {
            return broken(lines);
        }
        let gates = lines.split(1, &[hidden; 4]);
        let new_c = gates[1].sigmoid() * &c + gates[0].sigmoid() * gates[2].tanh();
        let new_h = (gates[3].sigmoid() * new_c.tanh()).matmul(&projection);
        match &lengths {
            None => (h, c) = (new_h.clone(), new_c),
            Some(lengths) => {
                let runs = lengths.gt(step);
                (h, c) = (runs.where_(&new_h, &h), runs.where_(&new_c, &c));
                outputs[step] = runs.where_(&h, &h.filled_like(0.0));
                continue;
            }
        }
        outputs[step] = new_h;
    }
    let output = Tensor::stack(&outputs.iter().collect::<Vec<_>>(), 0);
    Recurrent { output, last: vec![h, c] }
}
