//! Cases of the convolutions that are composed of those over two axes.

use super::{Conv1dOptions, Conv2dOptions, Conv3dOptions, Padding, TransposeOptions};
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

/// A case whose sums have this many terms.
fn case(
    name: &str,
    [x, w]: [&[usize]; 2],
    terms: usize,
    build: impl Fn(&[Tensor]) -> Tensor + Send + Sync + 'static,
) -> Case {
    Case::new(format!("Conv/{name}"), build).normal(x).normal(w).tolerance(Tolerance::Sum { terms })
}

pub fn cases() -> Vec<Case> {
    let row = Conv1dOptions { stride: [2], padding: [3], dilation: [2], groups: 2 };
    let volume = Conv3dOptions { stride: [2, 1, 2], padding: [1, 2, 0], dilation: [1, 2, 1], groups: 2 };
    let same = Conv2dOptions { dilation: [1, 3], ..Conv2dOptions::default() };
    let sides = Padding::Sides([[0, 2], [3, 1]]);
    let strided = Conv2dOptions { stride: [2, 2], ..Conv2dOptions::default() };
    let back = TransposeOptions { stride: [3], padding: [1], output_padding: [2], dilation: [1], groups: 2 };
    // An output padding of more than a stride.
    let apart = TransposeOptions { dilation: [5], output_padding: [4], stride: [2], ..TransposeOptions::default() };
    let image =
        TransposeOptions { stride: [2, 3], padding: [1, 0], output_padding: [1, 2], dilation: [2, 1], groups: 2 };
    let deep =
        TransposeOptions { stride: [2, 1, 2], padding: [1, 1, 0], output_padding: [1, 0, 1], ..Default::default() };
    vec![
        case("row", [&[2, 4, 131], &[6, 2, 5]], 650, move |x| x[0].conv1d(&x[1], &row)),
        case("row_plain", [&[2, 3, 37], &[5, 3, 3]], 200, |x| x[0].conv1d(&x[1], &Conv1dOptions::default())),
        case("volume", [&[2, 4, 5, 6, 9], &[6, 2, 3, 2, 3]], 400, move |x| x[0].conv3d(&x[1], &volume)),
        case("volume_one", [&[1, 1, 1, 1, 1], &[1, 1, 1, 1, 1]], 1, |x| x[0].conv3d(&x[1], &Conv3dOptions::default())),
        Case::new("Conv/volume_between", |x| {
            let y = x[0].tanh().transpose(1, 2).conv3d(&x[1], &Conv3dOptions::default());
            (y.scale(0.1) + x[2].reshape(&[1, 5, 1, 1, 1])).tanh()
        })
        .normal(&[2, 4, 3, 5, 7])
        .normal(&[5, 3, 2, 3, 3])
        .normal(&[5])
        .tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 1e-5 }),
        case("same", [&[2, 3, 7, 11], &[5, 3, 2, 3]], 160, move |x| x[0].conv_padded(&x[1], &same, &Padding::Same)),
        case("sides", [&[2, 3, 7, 10], &[5, 3, 3, 3]], 160, move |x| x[0].conv_padded(&x[1], &strided, &sides)),
        case("transposed_row", [&[2, 4, 37], &[4, 3, 5]], 200, move |x| x[0].conv_transpose1d(&x[1], &back)),
        case("transposed_apart", [&[2, 3, 7], &[3, 2, 3]], 60, move |x| x[0].conv_transpose1d(&x[1], &apart)),
        case("transposed", [&[2, 4, 5, 7], &[4, 3, 3, 2]], 80, move |x| x[0].conv_transpose2d(&x[1], &image)),
        case("transposed_volume", [&[2, 3, 3, 4, 5], &[3, 2, 3, 2, 3]], 150, move |x| {
            x[0].conv_transpose3d(&x[1], &deep)
        }),
        Case::new("Conv/half_volume", |x| x[0].conv3d(&x[1], &Conv3dOptions::default()))
            .input(&[1, 2, 3, 5, 7], DType::F16, Draw::Normal)
            .input(&[3, 2, 2, 3, 3], DType::F16, Draw::Normal)
            .tolerance(Tolerance::HalfSum { terms: 36 })
            .not_differentiable(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let device = Device::cpu();
        let (x, w) = (device.zeros(&[2, 3, 5]), device.zeros(&[4, 3, 2]));
        let refused = |y: Tensor, op: &str| match y.error() {
            Some(Error::Shape { op: name, .. } | Error::Value { op: name, .. }) => assert_eq!(*name, op),
            other => panic!("{other:?}"),
        };
        refused(x.conv1d(&device.zeros(&[4, 2, 2]), &Conv1dOptions::default()), "conv1d");
        refused(x.conv1d(&device.zeros(&[4, 3, 6]), &Conv1dOptions::default()), "conv1d");
        refused(x.conv1d(&w, &Conv1dOptions { stride: [0], ..Default::default() }), "conv1d");
        refused(x.conv3d(&w, &Conv3dOptions::default()), "conv3d");
        refused(x.conv(&w, &super::super::ConvOptions::<4>::default()), "conv3d");
        let strided = Conv1dOptions { stride: [2], ..Default::default() };
        refused(x.conv_padded(&w, &strided, &Padding::Same), "conv1d");
        let more = TransposeOptions { output_padding: [1], ..Default::default() };
        refused(x.conv_transpose1d(&device.zeros(&[3, 4, 2]), &more), "conv_transpose1d");
        let none = TransposeOptions { padding: [3], ..Default::default() };
        refused(x.conv_transpose1d(&device.zeros(&[3, 4, 2]), &none), "conv_transpose1d");
    }
}
