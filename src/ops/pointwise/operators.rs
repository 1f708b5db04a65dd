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

#[cfg(test)]
mod tests {
    use crate::{DType, Device};

    #[test]
    fn numbers_of_every_type_stand_behind_a_tensor_and_literals_in_front_of_it() {
        let x = Device::cpu().tensor(&[1.0f32, 2.0], &[2]);
        let half = half::f16::from_f32(0.5);
        let all = [&x + 1, &x + 1.0, &x + 1u8, &x + 1i64, &x + 1usize, &x + 1.0f32, &x + half + half, 1 + &x, 1.0 + &x];
        for sum in all {
            assert_eq!(sum.to_vec::<f32>().unwrap(), [2.0, 3.0]);
        }
        // A method may follow: the types of literals are clear.
        assert_eq!((1 - &x).abs().to_vec::<f32>().unwrap(), [0.0, 1.0]);
        assert_eq!((2.0 / x).sum_all().item().unwrap(), 3.0);
    }

    #[test]
    fn assigning_operators_leave_other_handles_as_they_are() {
        let x = Device::cpu().tensor(&[1i32, -7], &[2]);
        let mut y = x.clone();
        y += &x;
        y *= 2;
        y -= x.clone();
        assert_eq!(y.to_vec::<i32>().unwrap(), [3, -21]);
        y %= 2;
        assert_eq!(y.to_vec::<i32>().unwrap(), [1, -1]);
        assert_eq!(x.to_vec::<i32>().unwrap(), [1, -7]);
    }

    #[test]
    fn bits_of_integers_and_truth_values_of_booleans() {
        let device = Device::cpu();
        let x = device.tensor(&[5u32, 6], &[2]);
        let all =
            [(&x & 4, [4, 4]), (&x | 1, [5, 7]), (&x ^ &x, [0, 0]), (&x << 30, [1 << 30, 1 << 31]), (&x >> 1, [2, 3])];
        for (bits, want) in all {
            assert_eq!(bits.to_vec::<u32>().unwrap(), want);
        }
        assert_eq!((!&x & 15).to_vec::<u32>().unwrap(), [10, 9]);
        let (t, f) = (device.tensor(&[true, true], &[2]), device.tensor(&[false, true], &[2]));
        assert_eq!((&t & !&f).to_vec::<bool>().unwrap(), [true, false]);
        assert_eq!((&t ^ &f).to_vec::<bool>().unwrap(), [true, false]);
        assert!((x.cast(DType::F32) & 1).error().is_some());
    }
}
