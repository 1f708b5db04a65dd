//! Attention, where it stands whole in a recording.

use super::{Site, float, int};
use crate::onnx::writer::Writer;
use crate::ops::attention::Attention;

/// ONNX's own op, from version 23 on: `[batch, heads, length, features]`, causal or not. What it says otherwise is composed before.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Option<Result<String, String>> {
    let Attention { form } = site.is()?;
    let mut inputs = vec![site.name(0), site.name(1), site.name(2)];
    if form.mask {
        inputs.push(site.name(3));
    }
    let attributes = vec![int("is_causal", i64::from(form.right.is_some())), float("scale", form.scale)];
    Some(Ok(writer.add("Attention", &inputs, attributes)))
}
