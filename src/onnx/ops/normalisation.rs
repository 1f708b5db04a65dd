//! Normalisations, softmax, dropout.

use crate::dtype::DType;
use crate::nn::Mode;
use crate::onnx::call::{Call, Outcome, Row, Value, one};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::count;
use crate::onnx::ops::convolution::channels;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Statistics of the batch in training, where running ones are kept for later: new = momentum old + (1 - momentum) batch.
fn batch(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let (epsilon, momentum) = (call.float("epsilon", 1e-5)?, call.float("momentum", 0.9)?);
    let wide = |i: usize| -> Result<Tensor, Trouble> { Ok(call.tensor(i)?.cast(DType::F32)) };
    let (weight, bias, mean, variance) = (wide(1)?, wide(2)?, wide(3)?, wide(4)?);
    let [kept_mean, kept_variance] = [3, 4].map(|i| call.states.get(i).cloned().flatten());
    // The mode decides for a model that keeps statistics; one that gets them as inputs says itself what it does.
    let trains = match (&kept_mean, &kept_variance) {
        (Some(_), Some(_)) => call.mode == Mode::Train,
        _ => call.flag("training_mode", false)?,
    };
    let wide = x.cast(DType::F32);
    // Channels alone have no axes behind them.
    let image = if shape.len() == 1 { wide.unsqueeze(1) } else { wide };
    if !trains {
        let y = image.batch_norm_with(&mean, &variance, Some(&weight), Some(&bias), epsilon);
        return one(y.reshape(&shape).cast(elem.dtype()), elem);
    }
    let y = image.batch_norm(Some(&weight), Some(&bias), epsilon);
    let [of_mean, of_variance] = image.batch_statistics();
    let moved = |old: &Tensor, new: &Tensor| old * momentum + new * (1.0 - momentum);
    let (new_mean, new_variance) = (moved(&mean, &of_mean), moved(&variance, &of_variance));
    if let (Some(mean), Some(variance)) = (kept_mean, kept_variance) {
        mean.assign(&new_mean);
        variance.assign(&new_variance);
    }
    let statistic = |x: Tensor, i: usize| Ok::<_, Trouble>(Value::Tensor(x.cast(call.elem(i)?.dtype()), call.elem(i)?));
    Ok(vec![
        Value::Tensor(y.reshape(&shape).cast(elem.dtype()), elem),
        statistic(new_mean, 3)?,
        statistic(new_variance, 4)?,
    ])
}

/// Mean and 1 / deviation over all axes from `axis` on, and what is normalised with them.
fn layer(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axis = call.axis("axis", -1, shape.len())?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let x = x.cast(DType::F32);
    let axes: Vec<usize> = (axis..shape.len()).collect();
    let inner = shape.get(axis..).unwrap_or_default();
    let wide = |i: usize| -> Result<Option<Tensor>, Trouble> { Ok(call.optional(i)?.map(|x| x.cast(DType::F32))) };
    let (weight, bias) = (wide(1)?, wide(2)?);
    let fits = |side: &Option<Tensor>| side.as_ref().is_none_or(|side| side.shape().is_ok_and(|shape| shape == inner));
    let plain = fits(&weight) && fits(&bias);
    let y = x.layer_norm(axes.len(), weight.as_ref().filter(|_| plain), bias.as_ref().filter(|_| plain), epsilon);
    let y = match (plain, weight, bias) {
        (true, ..) => y,
        (false, Some(weight), Some(bias)) => y * weight + bias,
        (false, Some(weight), None) => y * weight,
        (false, None, _) => y,
    };
    let y = Value::Tensor(y.cast(elem.dtype()), elem);
    if !call.wants(1) && !call.wants(2) {
        return Ok(vec![y]);
    }
    let scale = (x.var_keep(&axes, 0) + epsilon).rsqrt();
    Ok(vec![y, Value::Tensor(x.mean_keep(&axes), Elem::F32), Value::Tensor(scale, Elem::F32)])
}

fn rms(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axis = call.axis("axis", -1, shape.len())?;
    let epsilon = call.float("epsilon", 1e-5)?;
    let y = x.cast(DType::F32).rms_norm(shape.len() - axis, None, epsilon);
    let y = match call.optional(1)? {
        Some(weight) => y * weight.cast(DType::F32),
        None => y,
    };
    one(y.cast(elem.dtype()), elem)
}

/// Groups of channels; before version 21 a weight and a bias for each group.
fn group(call: &Call<'_>, groups: usize) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let epsilon = call.float("epsilon", 1e-5)?;
    let deep = shape.get(1).copied().unwrap_or(0);
    if groups == 0 || deep == 0 || deep % groups != 0 {
        return wrong(format!("{groups} groups of {deep} channels"));
    }
    let y = x.cast(DType::F32).group_norm(groups, None, None, epsilon);
    let axes = shape.len() - 2;
    let side = |i: usize| -> Result<Tensor, Trouble> {
        let side = call.tensor(i)?.cast(DType::F32);
        let length = count(&call.shape(i)?)?;
        channels(&if length == deep { side } else { side.repeat_interleave(0, deep / length.max(1)) }, axes)
    };
    one((y * side(1)? + side(2)?).cast(elem.dtype()), elem)
}

fn group_norm(call: &Call<'_>) -> Outcome {
    group(call, usize::try_from(call.int("num_groups", 0)?).unwrap_or(0))
}

fn instance_norm(call: &Call<'_>) -> Outcome {
    let deep = call.shape(0)?.get(1).copied().unwrap_or(0);
    group(call, deep)
}

fn local_response(call: &Call<'_>) -> Outcome {
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    let size = usize::try_from(call.int("size", 0)?).unwrap_or(0);
    let (alpha, beta, bias) = (call.float("alpha", 1e-4)?, call.float("beta", 0.75)?, call.float("bias", 1.0)?);
    one(x.local_response_norm(size, alpha, beta, bias), elem)
}

fn lp(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axis = call.axis("axis", -1, shape.len())?;
    let wide = x.cast(DType::F32);
    let norm = wide.norm_keep(call.int("p", 2)? as f64, axis);
    // A norm of 0 leaves its zeros as they are.
    let y = norm.eq(0.0).where_(&wide, &(&wide / &norm));
    one(y.cast(elem.dtype()), elem)
}

fn mean_variance(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let axes = crate::onnx::call::places(&call.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]), shape.len())?;
    let wide = x.cast(DType::F32);
    let centred = &wide - wide.mean_keep(&axes);
    let deviation = wide.std_keep(&axes, 0) + 1e-9;
    one((centred / deviation).cast(elem.dtype()), elem)
}

/// Before version 13 all axes from `axis` on count as one.
fn soft(call: &Call<'_>, of: fn(&Tensor, usize) -> Tensor) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let is_old = call.node.version < 13;
    let axis = call.axis("axis", if is_old { 1 } else { -1 }, shape.len())?;
    if !is_old {
        return one(of(&x.cast(DType::F32), axis).cast(elem.dtype()), elem);
    }
    let (front, back) = shape.split_at(axis);
    let rows = x.cast(DType::F32).reshape(&[count(front)?, count(back)?]);
    one(of(&rows, 1).reshape(&shape).cast(elem.dtype()), elem)
}

/// Zeros a share of the elements in training. The ratio is an input, and before version 12 an attribute.
fn dropout(call: &Call<'_>) -> Outcome {
    let (x, elem, shape) = (call.tensor(0)?, call.elem(0)?, call.shape(0)?);
    let ratio = if call.has(1) { call.number(1)? } else { call.float("ratio", 0.5)? };
    let drops = call.mode == Mode::Train && ratio > 0.0;
    let y = if drops { x.dropout(ratio, call.draws) } else { x.clone() };
    if !call.wants(1) {
        return one(y, elem);
    }
    if drops {
        return unsupported("the mask of elements that are kept, in training");
    }
    Ok(vec![Value::Tensor(y, elem), Value::Tensor(call.filled(&shape, 1.0, Elem::Bool), Elem::Bool)])
}

/// Normalisations.
pub const ROWS: &[Row] = &[
    Row::new("BatchNormalization", batch)
        .with(&["epsilon", "momentum", "training_mode", "spatial"])
        .keeps(&[3, 4])
        .random(),
    Row::new("LayerNormalization", layer).with(&["axis", "epsilon", "stash_type"]),
    Row::new("RMSNormalization", rms).with(&["axis", "epsilon", "stash_type"]),
    Row::new("GroupNormalization", group_norm).with(&["epsilon", "num_groups", "stash_type"]),
    Row::new("InstanceNormalization", instance_norm).with(&["epsilon"]),
    Row::new("LRN", local_response).with(&["alpha", "beta", "bias", "size"]),
    Row::new("LpNormalization", lp).with(&["axis", "p"]),
    Row::new("MeanVarianceNormalization", mean_variance).with(&["axes"]),
    Row::new("Softmax", |call| soft(call, |x, axis| x.softmax(axis))).with(&["axis"]),
    Row::new("LogSoftmax", |call| soft(call, |x, axis| x.log_softmax(axis))).with(&["axis"]),
    Row::new("Dropout", dropout).with(&["ratio", "seed"]).knows(&[1, 2]).random(),
];
