//! All ops, and the list of them.
//!
//! One op, one file. A file holds, in this order: the struct with its attributes, the `Tensor` method, then the
//! [`Op`] implementation: shape rule, gradient, f64 reference, lowering, cases. Adding an op touches its file, its
//! shader and its two lines in this file: the module and the list at the bottom.

use std::any::{Any, TypeId};

pub use crate::error::Problem;
pub use crate::layout::{Meta, ViewKind};
pub use crate::op::{Backward, Build, Case, CaseInput, Casting, Draw, Lowering, Op, Role, Tolerance};
pub use crate::shader::{Algebra, Expression};
pub use reduction::Reduction;

pub mod after;
pub mod argmax;
mod arrange;
pub mod attention;
pub mod avg_pool2d;
pub mod batch_norm;
pub mod cast;
pub mod concat;
pub mod constant;
pub mod conv2d;
pub mod cross_entropy;
pub mod ctc;
pub mod cumsum;
pub mod einsum;
mod formulas;
pub mod gather;
pub mod layer_norm;
pub mod log_sum_exp;
pub mod losses;
pub mod matmul;
pub mod max_pool;
pub mod max_pool2d;
mod norm;
pub mod pad;
pub mod pointwise;
pub mod pool;
pub mod product;
pub(crate) mod radix;
pub mod random;
pub mod recurrent;
pub mod reduce;
mod reduction;
pub mod resample;
pub(crate) mod rows;
pub mod scan;
pub mod scatter;
pub(crate) mod shared;
pub mod softmax;
pub mod sort;
pub mod spatial;
pub(crate) mod tiles;
mod truth;
pub mod unfold;
pub mod unpool;
mod variance;
pub(crate) mod variants;
pub mod view;
pub mod walk;

macro_rules! op_list {
    ($($module:ident: $($op:ident),+;)+) => {
        /// True for the ops of this crate, whose expressions need no check of the driver's compiler.
        pub(crate) fn is_own(op: &dyn Op) -> bool {
            let own = [$($(TypeId::of::<$module::$op>()),+),+];
            own.contains(&(op as &dyn Any).type_id())
        }

        /// Every op's cases, named `op/case`.
        pub fn all_cases() -> Vec<Case> {
            let composed = [attention::cases(), einsum::cases(), conv2d::composed(), spatial::cases(), arrange::cases()];
            let mut all = composed.concat();
            $($(all.extend(<$module::$op as Op>::cases().into_iter().map(|mut case| {
                case.name = format!("{}/{}", stringify!($op), case.name);
                case
            }));)+)+
            all
        }

        /// The variants of every op, by name.
        pub fn all_variants() -> Vec<&'static str> {
            let mut all: Vec<&str> = [$($(<$module::$op as Op>::variants()),+),+].concat();
            all.sort_unstable();
            all.dedup();
            all
        }
    };
}

op_list! {
    pointwise: Pointwise;
    constant: Constant;
    random: RandomBits, Normals;
    cast: Cast;
    view: Reshape, Permute, Expand, Slice, Detach;
    after: After;
    reduce: Reduce;
    log_sum_exp: LogSumExp;
    argmax: Argmax;
    pad: Pad, Place, PlaceSum;
    walk: Walk;
    max_pool2d: MaxPool2d, MaxPool2dBackward;
    avg_pool2d: AvgPool2d, AvgPool2dBackward;
    softmax: Softmax, SoftmaxBackward;
    cumsum: Cumsum;
    scan: Cumprod, Cumextreme, Logcumsumexp, Recurrence;
    sort: Sort, SortBackward;
    cross_entropy: CrossEntropy, CrossEntropyBackward, SoftCrossEntropy, SoftCrossEntropyBackward;
    ctc: CtcLattice, CtcLatticeBackward;
    batch_norm: BatchNorm, BatchNormBackward, BatchNormOfRanks, BatchNormStatistics, BatchNormSums;
    layer_norm: LayerNorm, LayerNormBackward, LayerNormStatistics, LayerNormWeightGrad;
    gather: Gather, GatherBackward;
    scatter: Meet;
    concat: Concat;
    recurrent: Recurrence, RecurrenceBackward;
    matmul: Matmul;
    attention: Attention, AttentionBackward, Counter;
    conv2d: Conv2d, Conv2dDataGrad, Conv2dWeightGrad;
    unfold: Unfold, Fold;
    resample: Resample, ResampleBackward;
    max_pool: MaxPool, MaxPoolBackward;
    unpool: Unpool;
}
