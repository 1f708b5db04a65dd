//! Recurrences in f64 by plain loops.

use super::{Cell, Recurrence, RecurrenceBackward, floats};
use crate::array::Array;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Zeros of a shape that has been checked.
fn zeros(dims: &[usize]) -> Array {
    let meta = floats(dims).expect("a shape that has been checked");
    Array::build(meta.shape, meta.dtype, |_| 0.0)
}

/// The steps of each row; all where rows have no lengths of their own.
fn lengths(has: bool, inputs: &[&Array], rows: usize) -> Vec<usize> {
    match inputs.last() {
        Some(lengths) if has => lengths.data.iter().map(|&length| length as usize).collect(),
        _ => vec![usize::MAX; rows],
    }
}

fn round(array: &mut Array) {
    let dtype = array.dtype;
    array.data.iter_mut().for_each(|value| *value = dtype.round(*value));
}

impl Recurrence {
    pub(super) fn forward(&self, inputs: &[&Array]) -> Vec<Array> {
        let [x, weight, bias] = [inputs[0], inputs[1], inputs[2]];
        let [steps, rows, hidden] = [x.shape[0], x.shape[1], weight.shape[1]];
        let lines = weight.shape[0];
        let lengths = lengths(self.lengths, inputs, rows);
        let slot = rows * hidden;
        let first = self.first(steps) * slot;
        let mut states = zeros(&[steps + 1, rows, hidden]);
        let mut cells = zeros(&[steps + 1, rows, hidden]);
        let mut gates = zeros(&[steps, rows, 4 * hidden]);
        states.data[first..first + slot].copy_from_slice(&inputs[3].data);
        if self.cell == Cell::Lstm {
            cells.data[first..first + slot].copy_from_slice(&inputs[4].data);
        }
        for [time, before, here] in self.steps(steps) {
            for (row, &length) in lengths.iter().enumerate() {
                let h = states.data[before * slot + row * hidden..][..hidden].to_vec();
                for unit in 0..hidden {
                    // Of line `k` of the unit: x, and the product with the state.
                    let own = |k: usize| x.data[(time * rows + row) * lines + k * hidden + unit];
                    let product = |k: usize| {
                        let line = &weight.data[(k * hidden + unit) * hidden..][..hidden];
                        line.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>() + bias.data[k * hidden + unit]
                    };
                    let at = row * hidden + unit;
                    let (mut kept, mut c) = ([0.0; 4], 0.0);
                    let value = match self.cell {
                        Cell::Tanh => (own(0) + product(0)).tanh(),
                        Cell::Relu => {
                            let z = own(0) + product(0);
                            if z < 0.0 { 0.0 } else { z }
                        }
                        Cell::Gru => {
                            let [r, z] = [0, 1].map(|k| sigmoid(own(k) + product(k)));
                            let q = product(2);
                            let n = (own(2) + r * q).tanh();
                            kept = [r, z, n, q];
                            (1.0 - z) * n + z * h[unit]
                        }
                        Cell::Lstm => {
                            let [i, f, o] = [0, 1, 3].map(|k| sigmoid(own(k) + product(k)));
                            let g = (own(2) + product(2)).tanh();
                            kept = [i, f, g, o];
                            c = f * cells.data[before * slot + at] + i * g;
                            o * c.tanh()
                        }
                    };
                    for (k, kept) in kept.into_iter().enumerate() {
                        gates.data[((time * rows + row) * 4 + k) * hidden + unit] = kept;
                    }
                    let ended = time >= length;
                    let before = before * slot + at;
                    states.data[here * slot + at] = if ended { states.data[before] } else { value };
                    cells.data[here * slot + at] = if ended { cells.data[before] } else { c };
                }
            }
        }
        let mut results = vec![states];
        results.extend(self.cell.has_gates().then_some(gates));
        results.extend((self.cell == Cell::Lstm).then_some(cells));
        results.iter_mut().for_each(round);
        results
    }
}

impl RecurrenceBackward {
    pub(super) fn backward(&self, inputs: &[&Array]) -> Vec<Array> {
        let Recurrence { cell, lengths: has_lengths, .. } = self.forward;
        let weight = inputs[0];
        let has_gates = usize::from(cell.has_gates());
        // Without gates these are not looked at.
        let gates = inputs[has_gates];
        let [kept, dstates] = [inputs[1 + has_gates], inputs[2 + has_gates]];
        let dcells = self.cells.then(|| inputs[3 + has_gates]);
        let [slots, rows, hidden] = [kept.shape[0], kept.shape[1], kept.shape[2]];
        let (steps, slot, lines) = (slots - 1, rows * hidden, cell.lines());
        let lengths = lengths(has_lengths, inputs, rows);
        let mut d = zeros(&[slots, rows, lines * hidden]);
        let mut dx = zeros(&[steps, rows, lines * hidden]);
        let mut carry = zeros(&[cell.states(), rows, hidden]);
        for [time, before, here] in self.forward.steps(steps).rev() {
            for (row, &length) in lengths.iter().enumerate() {
                let next = d.data[(here * rows + row) * lines * hidden..][..lines * hidden].to_vec();
                for unit in 0..hidden {
                    let at = row * hidden + unit;
                    let product: f64 = next.iter().enumerate().map(|(k, d)| d * weight.data[k * hidden + unit]).sum();
                    let dh = product + carry.data[at] + dstates.data[here * slot + at];
                    let dc = match cell {
                        Cell::Lstm => {
                            carry.data[slot + at] + dcells.map_or(0.0, |dcells| dcells.data[here * slot + at])
                        }
                        _ => 0.0,
                    };
                    if time >= length {
                        carry.data[at] = dh;
                        if cell == Cell::Lstm {
                            carry.data[slot + at] = dc;
                        }
                        continue;
                    }
                    let gate = |k: usize| gates.data[((time * rows + row) * 4 + k) * hidden + unit];
                    let [value, earlier] = [here, before].map(|slots| kept.data[slots * slot + at]);
                    // Of the products with the state, and of x.
                    let (of_products, of_x) = match cell {
                        Cell::Tanh | Cell::Relu => {
                            let slope = if cell == Cell::Tanh { 1.0 - value * value } else { f64::from(value > 0.0) };
                            carry.data[at] = 0.0;
                            ([dh * slope, 0.0, 0.0, 0.0], [dh * slope, 0.0, 0.0, 0.0])
                        }
                        Cell::Gru => {
                            let [r, z, n, q] = [0, 1, 2, 3].map(gate);
                            let dn = dh * (1.0 - z) * (1.0 - n * n);
                            let dr = dn * q * r * (1.0 - r);
                            let dz = dh * (earlier - n) * z * (1.0 - z);
                            carry.data[at] = dh * z;
                            ([dr, dz, dn * r, 0.0], [dr, dz, dn, 0.0])
                        }
                        Cell::Lstm => {
                            let [i, f, g, o] = [0, 1, 2, 3].map(gate);
                            let t = value.tanh();
                            let e = dc + dh * o * (1.0 - t * t);
                            carry.data[at] = 0.0;
                            carry.data[slot + at] = e * f;
                            let di = e * g * i * (1.0 - i);
                            let df = e * earlier * f * (1.0 - f);
                            let all = [di, df, e * i * (1.0 - g * g), dh * t * o * (1.0 - o)];
                            (all, all)
                        }
                    };
                    for k in 0..lines {
                        d.data[((before * rows + row) * lines + k) * hidden + unit] = of_products[k];
                        dx.data[((time * rows + row) * lines + k) * hidden + unit] = of_x[k];
                    }
                }
            }
        }
        let mut results = vec![d, carry];
        results.extend((cell == Cell::Gru).then_some(dx));
        results.iter_mut().for_each(round);
        results
    }
}
