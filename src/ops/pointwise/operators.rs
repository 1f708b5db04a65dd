//! Operators between tensors, and between tensors and numbers.
//!
//! Behind a tensor stands a number of any type. In front of one it is an f64 or an i32: with one type for floats and one for whole numbers
//! the compiler knows what `1 - &x` and `2.0 * &x` are, and methods may follow.

use super::{Argument, number, table};
use crate::tensor::Tensor;

macro_rules! operator {
    ($($trait:ident $method:ident $assign:ident $method_assign:ident $named:ident;)+) => { $(
        impl<'a, R: Into<Argument<'a>>> std::ops::$trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor { self.$named(other) }
        }
        impl<'a, R: Into<Argument<'a>>> std::ops::$trait<R> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor { self.$named(other) }
        }
        impl std::ops::$trait<Tensor> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { self.$named(&other) }
        }
        impl std::ops::$trait<Tensor> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { self.$named(&other) }
        }
        /// The handle takes the result; what else refers to the tensor keeps its value.
        impl<'a, R: Into<Argument<'a>>> std::ops::$assign<R> for Tensor {
            #[track_caller]
            fn $method_assign(&mut self, other: R) { *self = self.$named(other); }
        }
        impl std::ops::$assign<Tensor> for Tensor {
            #[track_caller]
            fn $method_assign(&mut self, other: Tensor) { *self = self.$named(&other); }
        }
    )+ };
}

operator! {
    Add add AddAssign add_assign plus;
    Sub sub SubAssign sub_assign minus;
    Mul mul MulAssign mul_assign times;
    Div div DivAssign div_assign over;
    Rem rem RemAssign rem_assign fmod;
    BitAnd bitand BitAndAssign bitand_assign bitwise_and;
    BitOr bitor BitOrAssign bitor_assign bitwise_or;
    BitXor bitxor BitXorAssign bitxor_assign bitwise_xor;
    Shl shl ShlAssign shl_assign shift_left;
    Shr shr ShrAssign shr_assign shift_right;
}

macro_rules! number_first {
    ($($number:ident: $($trait:ident $method:ident $row:ident),+;)+) => { $($(
        impl std::ops::$trait<&Tensor> for $number {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor { number::reversed(&table::$row, f64::from(self), other) }
        }
        impl std::ops::$trait<Tensor> for $number {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor { number::reversed(&table::$row, f64::from(self), &other) }
        }
    )+)+ };
}

number_first! {
    f64: Add add ADD, Sub sub SUB, Mul mul MUL, Div div DIV, Rem rem FMOD;
    i32: Add add ADD, Sub sub SUB, Mul mul MUL, Div div DIV, Rem rem FMOD;
}

macro_rules! sign {
    ($($trait:ident $method:ident $named:ident;)+) => { $(
        impl std::ops::$trait for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self) -> Tensor { self.$named() }
        }
        impl std::ops::$trait for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self) -> Tensor { self.$named() }
        }
    )+ };
}

sign! {
    Neg neg negative;
    Not not bitwise_not;
}
