//! Attention and products (`scripts/values/products.py`).

use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::{DType, Tensor};
use serde_json::Value;

fn whole(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}

fn list(value: &Value) -> Vec<usize> {
    value.as_array().expect("a list").iter().map(whole).collect()
}

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let all: Vec<&Tensor> = x.iter().collect();
    let result = match op {
        "attention_with" => return Some(attention(attrs, x)),
        "einsum" => Tensor::einsum(attrs["equation"].as_str().expect("a text"), &all),
        "tensordot" => x[0].tensordot(&x[1], &list(&attrs["axes"]), &list(&attrs["others"])),
        "bmm" => x[0].bmm(&x[1]),
        "mv" => x[0].mv(&x[1]),
        "dot" => x[0].dot(&x[1]),
        "inner" => x[0].inner(&x[1]),
        "kron" => x[0].kron(&x[1]),
        "trace" => x[0].trace(),
        "cross" => x[0].cross(&x[1], whole(&attrs["axis"])),
        "matrix_power" => x[0].matrix_power(whole(&attrs["power"]) as u32),
        _ => return None,
    };
    Some(vec![result])
}

/// By blocks, which the composed form must agree with.
fn attention(attrs: &Value, x: &[Tensor]) -> Vec<Tensor> {
    let mut rest = x[3..].iter();
    let mut next = |is_there: &Value, dtype: DType| {
        let given = (*is_there == true).then(|| rest.next().expect("an input"));
        // Whole numbers stand for truths, and for lengths.
        given.map(|given| if matches!(given.dtype(), Ok(DType::I32)) { given.cast(dtype) } else { given.clone() })
    };
    let mask = next(&attrs["mask"], DType::Bool);
    let lengths = next(&attrs["lengths"], DType::U32);
    let options = AttentionOptions {
        causal: attrs["causal"] == true,
        window: attrs["window"].as_array().map(|both| [whole(&both[0]), whole(&both[1])]),
        mask: mask.as_ref(),
        lengths: lengths.as_ref(),
        scale: attrs["scale"].as_f64(),
        soft_cap: attrs["cap"].as_f64(),
        grouped: attrs["grouped"] == true,
        form: AttentionForm::Blocks,
        ..AttentionOptions::default()
    };
    let composed = AttentionOptions { form: AttentionForm::Composed, ..options };
    let [blocks, composed] =
        [options, composed].map(|options| x[0].scaled_dot_product_attention(&x[1], &x[2], &options));
    let [got, want] = [&blocks, &composed].map(|y| y.to_array().expect("a result").data);
    assert!(got.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{got:?} {want:?}");
    vec![blocks]
}
