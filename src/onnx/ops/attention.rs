//! Attention, and what turns queries and keys by their positions.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, Value, one};
use crate::onnx::elem::Elem;
use crate::onnx::ops::linear::times;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Input `i` as `[batch, heads, length, features]`.
fn heads(call: &Call<'_>, i: usize, count: &str) -> Result<Tensor, Trouble> {
    let (x, shape) = (call.tensor(i)?.cast(DType::F32), call.shape(i)?);
    match shape[..] {
        [_, _, _, _] => Ok(x),
        [batch, length, width] => {
            let heads = usize::try_from(call.int(count, 0)?).unwrap_or(0);
            if heads == 0 || width % heads != 0 {
                return wrong(format!("{heads} heads of {width} features"));
            }
            Ok(x.reshape(&[batch, length, heads, width / heads]).permute(&[0, 2, 1, 3]))
        }
        _ => wrong(format!("input {i} has shape {shape:?}")),
    }
}

fn dims(x: &Tensor) -> Result<[usize; 4], Trouble> {
    match x.shape()? {
        &[a, b, c, d] => Ok([a, b, c, d]),
        other => wrong(format!("shape {other:?} where four axes are wanted")),
    }
}

/// Which keys a query sees, by the mask, the order and the number of keys that are no padding: what is added to the scores.
fn bias(call: &Call<'_>, [batch, queries, keys, past]: [usize; 4]) -> Result<Option<Tensor>, Trouble> {
    let mut bias: Option<Tensor> = None;
    let mut add = |more: Tensor| {
        bias = Some(match bias.take() {
            None => more,
            Some(bias) => bias + more,
        });
    };
    let zero = call.device.full(&[], 0.0, DType::F32);
    let never = call.device.full(&[], f64::NEG_INFINITY, DType::F32);
    if let Some(mask) = call.optional(3)? {
        let shape = call.shape(3)?;
        let is_bool = call.elem(3)? == Elem::Bool;
        let mask = if is_bool { mask.where_(&zero, &never) } else { mask.cast(DType::F32) };
        let length = shape.last().copied().unwrap_or(0);
        let mask = match keys.checked_sub(length) {
            Some(more) if more > 0 && length > 1 => {
                let mut pairs = vec![(0, 0); shape.len()];
                if let Some(pair) = pairs.last_mut() {
                    *pair = (0, more);
                }
                mask.pad(&pairs, f64::NEG_INFINITY)
            }
            _ => mask,
        };
        add(mask);
    }
    // Positions of queries: behind the past, or at the end of the keys that are there.
    let key = call.device.arange(keys, DType::I32).reshape(&[1, 1, 1, keys]);
    let query = call.device.arange(queries, DType::I32).reshape(&[1, 1, queries, 1]);
    let filled = call.optional(6)?.map(|filled| filled.cast(DType::I32).reshape(&[batch, 1, 1, 1]));
    let at = match &filled {
        Some(filled) if !call.has(4) => query + filled - queries,
        _ => query + past,
    };
    if let Some(filled) = &filled {
        add(key.lt(filled).where_(&zero, &never));
    }
    if call.flag("is_causal", false)? {
        add(key.le(&at).where_(&zero, &never));
    }
    let (left, right) = (call.int("left_window_size", -1)?, call.int("right_window_size", -1)?);
    if left >= 0 {
        add(key.ge(&(&at - left)).where_(&zero, &never));
    }
    if right >= 0 {
        add(key.le(&(&at + right)).where_(&zero, &never));
    }
    Ok(bias)
}

fn attention(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    let (q, k, v) = (heads(call, 0, "q_num_heads")?, heads(call, 1, "kv_num_heads")?, heads(call, 2, "kv_num_heads")?);
    let before = |i: usize, x: Tensor| -> Result<Tensor, Trouble> {
        Ok(match call.optional(i)? {
            Some(past) => Tensor::concat(&[&past.cast(DType::F32), &x], 2),
            None => x,
        })
    };
    let past = if call.has(4) { call.shape(4)?.get(2).copied().unwrap_or(0) } else { 0 };
    let (k, v) = (before(4, k)?, before(5, v)?);
    let ([batch, query_heads, queries, features], [_, key_heads, keys, _], [.., width]) =
        (dims(&q)?, dims(&k)?, dims(&v)?);
    if key_heads == 0 || query_heads % key_heads != 0 {
        return wrong(format!("{query_heads} heads of queries and {key_heads} of keys"));
    }
    let share = query_heads / key_heads;
    let shared = |x: &Tensor| if share == 1 { x.clone() } else { x.repeat_interleave(1, share) };
    let scale = match call.float("scale", 0.0)? {
        0.0 => 1.0 / (features as f64).sqrt(),
        scale => scale,
    };
    let raw = times(&q, &shared(&k).transpose(2, 3)) * scale;
    let cap = call.float("softcap", 0.0)?;
    let capped = if cap == 0.0 { raw.clone() } else { (&raw / cap).tanh() * cap };
    let bias = bias(call, [batch, queries, keys, past])?;
    let masked = match &bias {
        Some(bias) => &capped + bias,
        None => capped.clone(),
    };
    let weights = match &bias {
        None => masked.softmax(3),
        // A query that sees no key gets zeros.
        Some(_) => {
            let most = masked.max_keep(3);
            let sees = most.gt(f64::NEG_INFINITY);
            let zero = call.device.full(&[], 0.0, DType::F32);
            sees.where_(&sees.where_(&masked, &zero).softmax(3), &zero)
        }
    };
    let y = times(&weights, &shared(&v));
    let y = match call.shape(0)?.len() {
        3 => y.permute(&[0, 2, 1, 3]).reshape(&[batch, queries, query_heads * width]),
        _ => y,
    };
    let scores = match call.int("qk_matmul_output_mode", 0)? {
        0 => raw,
        1 => capped,
        2 => masked,
        3 => weights,
        other => return wrong(format!("qk_matmul_output_mode is {other}")),
    };
    let value = |x: Tensor| Value::Tensor(x.cast(elem.dtype()), elem);
    Ok(vec![value(y), value(k), value(v), value(scores)])
}

/// Pairs of features turned by the angle of their position.
fn rotary(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?.cast(DType::F32), call.shape(0)?, call.elem(0)?);
    let x = match shape[..] {
        [_, _, _, _] => x.permute(&[0, 2, 1, 3]),
        [batch, length, width] => {
            let heads = usize::try_from(call.int("num_heads", 0)?).unwrap_or(0);
            if heads == 0 || width % heads != 0 {
                return wrong(format!("{heads} heads of {width} features"));
            }
            x.reshape(&[batch, length, heads, width / heads])
        }
        _ => return wrong(format!("shape {shape:?}")),
    };
    let [batch, length, heads, features] = dims(&x)?;
    let turned = match usize::try_from(call.int("rotary_embedding_dim", 0)?).unwrap_or(0) {
        0 => features,
        turned => turned,
    };
    let half = turned / 2;
    let angle = |i: usize| -> Result<Tensor, Trouble> {
        let table = call.tensor(i)?.cast(DType::F32);
        let rows = match call.optional(3)? {
            Some(at) => table.embedding(&at, None),
            None => table,
        };
        Ok(rows.reshape(&[batch, length, 1, half]))
    };
    let (cos, sin) = (angle(1)?, angle(2)?);
    let part =
        |x: &Tensor, from: usize, to: usize, step: usize| x.slice_step(3, from as isize, to as isize, step as isize);
    let interleaved = call.flag("interleaved", false)?;
    let (a, b) = match interleaved {
        true => (part(&x, 0, turned, 2), part(&x, 1, turned, 2)),
        false => (part(&x, 0, half, 1), part(&x, half, turned, 1)),
    };
    let (real, imaginary) = (&a * &cos - &b * &sin, &a * &sin + &b * &cos);
    let y = match interleaved {
        true => Tensor::stack(&[&real, &imaginary], 4).reshape(&[batch, length, heads, turned]),
        false => Tensor::concat(&[&real, &imaginary], 3),
    };
    let y = if turned < features { Tensor::concat(&[&y, &part(&x, turned, features, 1)], 3) } else { y };
    let y = if shape.len() == 4 { y.permute(&[0, 2, 1, 3]) } else { y.reshape(&shape) };
    one(y.cast(elem.dtype()), elem)
}

/// Attention by a state `[batch, heads, keys, values]` that each step updates.
fn linear(call: &Call<'_>) -> Outcome {
    let elem = call.elem(0)?;
    let split = |i: usize, count: &str| heads(call, i, count);
    let (q, k, v) = (split(0, "q_num_heads")?, split(1, "kv_num_heads")?, split(2, "kv_num_heads")?);
    let ([batch, query_heads, steps, features], [_, key_heads, _, deep], [.., width]) =
        (dims(&q)?, dims(&k)?, dims(&v)?);
    if key_heads == 0 || query_heads % key_heads != 0 {
        return wrong(format!("{query_heads} heads of queries and {key_heads} of keys"));
    }
    if steps > 4096 {
        return unsupported(format!("{steps} steps, each recorded by itself"));
    }
    let scale = match call.float("scale", 0.0)? {
        0.0 => 1.0 / (features as f64).sqrt(),
        scale => scale,
    };
    let rule = call.text("update_rule", "gated_delta")?;
    let (gated, delta) = match rule.as_str() {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return wrong(format!("update_rule is `{other}`")),
    };
    let per_head = |i: usize| -> Result<Tensor, Trouble> {
        let (x, shape) = (call.tensor(i)?.cast(DType::F32), call.shape(i)?);
        let last = shape.last().copied().unwrap_or(0);
        let heads = if last == 1 { 1 } else { key_heads };
        Ok(x.reshape(&[batch, steps, heads, last / heads.max(1)]).permute(&[0, 2, 1, 3]))
    };
    let decay = if gated { Some(per_head(4)?) } else { None };
    let rate = if delta { Some(per_head(5)?) } else { None };
    let mut state = match call.optional(3)? {
        Some(past) => past.cast(DType::F32),
        None => call.device.zeros(&[batch, key_heads, deep, width]),
    };
    let mut outputs = vec![];
    for step in 0..steps as isize {
        let at = |x: &Tensor| x.slice_step(2, step, step + 1, 1);
        // Keys as a column, values and rates as rows.
        let (key, value) = (at(&k).transpose(2, 3), at(&v));
        if let Some(decay) = &decay {
            state *= at(decay).transpose(2, 3).exp();
        }
        let value = match &rate {
            Some(rate) => (value - times(&key.transpose(2, 3), &state)) * at(rate),
            None => value,
        };
        state += key * value;
        let share = query_heads / key_heads;
        let seen = if share == 1 { state.clone() } else { state.repeat_interleave(1, share) };
        outputs.push(times(&at(&q), &seen) * scale);
    }
    let y = Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 2);
    let y = y.permute(&[0, 2, 1, 3]).reshape(&[batch, steps, query_heads * width]);
    let value = |x: Tensor| Value::Tensor(x.cast(elem.dtype()), elem);
    Ok(vec![value(y), value(state)])
}

/// Attention.
pub const ROWS: &[Row] = &[
    Row::new("Attention", attention).with(&[
        "is_causal",
        "kv_num_heads",
        "left_window_size",
        "q_num_heads",
        "qk_matmul_output_mode",
        "right_window_size",
        "scale",
        "softcap",
        "softmax_precision",
    ]),
    Row::new("RotaryEmbedding", rotary).with(&["interleaved", "num_heads", "rotary_embedding_dim"]),
    Row::new("LinearAttention", linear).with(&["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"]),
];
