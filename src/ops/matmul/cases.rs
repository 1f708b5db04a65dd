//! Shapes on which the product is tested and timed.

use super::Matmul;
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::ops::product::Product;
use crate::tensor::Tensor;

pub(super) fn all() -> Vec<Case> {
    fn case(name: impl Into<String>, a: &[usize], b: &[usize], build: fn(&Tensor, &Tensor) -> Tensor) -> Case {
        let terms = a.iter().chain(b).copied().max().unwrap_or(1);
        let sum = Tolerance::Sum { terms };
        // Stretched batches are summed in the gradient.
        let batches = a.iter().rev().skip(2).chain(b.iter().rev().skip(2)).product::<usize>();
        let case = Case::new(name, move |x| build(&x[0], &x[1])).normal(a).normal(b).tolerance(sum);
        case.gradient_tolerance(Tolerance::Sum { terms: terms * batches })
    }
    let plain: fn(&Tensor, &Tensor) -> Tensor = |a, b| a.matmul(b);
    let mut cases = vec![
        case("37x131x75", &[37, 131], &[131, 75], plain),
        case("one_by_one", &[1, 1], &[1, 1], plain),
        case("outer", &[37, 1], &[1, 131], plain),
        case("inner", &[1, 131], &[131, 1], plain),
        case("row", &[1, 131], &[131, 37], plain),
        case("column", &[131, 37], &[37, 1], plain),
        case("left_transposed", &[131, 37], &[131, 75], |a, b| a.transpose(0, 1).matmul(b)),
        case("right_transposed", &[37, 131], &[75, 131], |a, b| a.matmul(&b.transpose(0, 1))),
        case("both_transposed", &[131, 37], &[75, 131], |a, b| a.transpose(0, 1).matmul(&b.transpose(0, 1))),
        case("split", &[5, 4099], &[4099, 7], plain),
        case("split_long", &[2, 60_001], &[60_001, 3], plain),
        case("batched", &[3, 37, 5], &[3, 5, 11], plain),
        case("rows_folded", &[3, 5, 37], &[37, 11], plain),
        case("batch_broadcast", &[5, 1, 7, 11], &[3, 11, 13], plain),
        case("left_broadcast", &[7, 11], &[2, 3, 11, 5], plain),
        case("three_batch_axes", &[2, 1, 3, 5, 7], &[2, 2, 1, 7, 4], plain),
        case("heads", &[2, 5, 3, 7], &[2, 11, 3, 7], |q, k| q.permute(&[0, 2, 1, 3]).matmul(&k.permute(&[0, 2, 3, 1]))),
        case("slice", &[9, 37], &[37, 11], |a, b| a.slice(0, 2, 5).matmul(&b.slice_fixed(1, 3, 7))),
    ];
    let epilogue = case("epilogue", &[37, 13], &[13, 75], |a, b| (a.matmul(b) + 1.0).relu().transpose(0, 1));
    // The relu of a sum near zero falls either way: a bound on its own size.
    cases.push(epilogue.tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 1e-5 }));
    // Operands as f16, as f32 that is rounded where it is read, and one of each; results of either width.
    let half = |label: &str, dtypes: [DType; 2], output: DType, [m, k, n]: [usize; 3]| {
        let op = move || Matmul { product: Product { half: true, output } };
        let case = Case::new(format!("half_{label}"), move |x| Tensor::apply(op(), &[&x[0], &x[1]]));
        let case = case.input(&[m, k], dtypes[0], Draw::Normal).input(&[k, n], dtypes[1], Draw::Normal);
        let half = output == DType::F16;
        case.tolerance(if half { Tolerance::HalfSum { terms: k } } else { Tolerance::Sum { terms: k } })
            .not_differentiable()
    };
    let (narrow, wide) = (DType::F16, DType::F32);
    cases.extend([
        half("stored", [narrow, narrow], narrow, [37, 131, 75]),
        half("rounded", [wide, narrow], wide, [35, 67, 39]),
        half("quads", [narrow, narrow], narrow, [132, 68, 140]),
        half("split", [narrow, wide], narrow, [3, 5003, 5]),
    ]);
    let of = |dtype: DType| {
        let relu = |x: &[Tensor]| {
            let y = Tensor::apply(Matmul { product: Product::HALF }, &[&x[0].cast(DType::F16), &x[1]]);
            (y.relu() * 0.5).cast(DType::F32)
        };
        // Rounded twice; a rounding that falls the other way is one unit of 2^-10.
        let bound = Tolerance::Pointwise { absolute: 1e-4, relative: 2e-3 };
        let case = Case::new(format!("f16_and_{dtype}"), relu).normal(&[37, 19]).input(&[19, 11], dtype, Draw::Normal);
        case.tolerance(bound).not_differentiable()
    };
    cases.extend([DType::F16, DType::F32].map(of));
    // Tiles that are cut on both sides, an operand at a time along its other axis, a split of tiled ones.
    cases.extend([
        case("quads", &[132, 68], &[68, 140], plain),
        case("quads_turned", &[68, 132], &[140, 68], |a, b| a.transpose(0, 1).matmul(&b.transpose(0, 1))),
        case("quads_batched", &[3, 36, 20], &[20, 44], |a, b| a.matmul(&b.reshape(&[1, 20, 44]))),
        case("quads_split", &[8, 2064], &[2064, 12], plain),
        case("quads_off_start", &[40, 36], &[36, 44], |a, b| a.slice_fixed(0, 1, 33).matmul(&b.slice_fixed(1, 2, 42))),
        case("67x35x131_turned", &[67, 35], &[131, 35], |a, b| a.matmul(&b.transpose(0, 1))),
        case("split_3x5003x5", &[3, 5003], &[5003, 5], plain),
    ]);
    // Every pair of contiguous axes that can be read four elements at a time; k is odd where it is neither's.
    cases.extend([
        case("fours_36x132x76", &[36, 132], &[132, 76], plain),
        case("fours_right_turned", &[37, 132], &[75, 132], |a, b| a.matmul(&b.transpose(0, 1))),
        case("fours_left_turned", &[131, 36], &[131, 76], |a, b| a.transpose(0, 1).matmul(b)),
        case("fours_both_turned", &[132, 36], &[75, 132], |a, b| a.transpose(0, 1).matmul(&b.transpose(0, 1))),
        case("fours_split", &[8, 5004], &[5004, 12], plain),
        case("fours_left_turned_split", &[5003, 8], &[5003, 12], |a, b| a.transpose(0, 1).matmul(b)),
        case("fours_batches", &[3, 36, 8], &[3, 8, 12], plain),
        case("fours_slice", &[12, 40], &[40, 16], |a, b| a.slice_fixed(1, 4, 36).matmul(&b.slice_fixed(0, 4, 36))),
    ]);
    // Eight elements a load: cut tiles, either axis of the right operand, a part of a matrix, rows of results of any length.
    cases.extend([
        case("eights_37x72x40", &[37, 72], &[72, 40], plain),
        case("eights_right_turned", &[67, 64], &[75, 64], |a, b| a.matmul(&b.transpose(0, 1))),
        case("eights_split", &[8, 5008], &[5008, 16], plain),
        case("eights_batches", &[3, 36, 40], &[3, 40, 72], plain),
        case("eights_slice", &[12, 48], &[48, 40], |a, b| a.slice_fixed(1, 8, 40).matmul(&b.slice_fixed(0, 8, 40))),
    ]);
    // An epilogue that reads a number a column, a number a row, and elements that do not lie side by side.
    cases.push(case("fours_epilogue", &[36, 132], &[132, 36], |a, b| {
        a.matmul(b) * 0.5 + b.slice_fixed(0, 3, 1) + a.slice_fixed(1, 5, 1) + a.slice_fixed(1, 8, 36).transpose(0, 1)
    }));
    cases
}
