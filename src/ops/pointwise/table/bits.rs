//! Bits of integers.

use super::row::{Kind, Row, rows};
use crate::shader::Algebra;

rows! {

    BITS_AND "bitwise_and" Integer Plain 2 "a & b" whole |a, b| a & b, |a, _, _| a, None;
    BITS_OR "bitwise_or" Integer Plain 2 "a | b" whole |a, b| a | b, |a, _, _| a, None;
    BITS_XOR "bitwise_xor" Integer Plain 2 "a ^ b" whole |a, b| a ^ b, |a, _, _| a, None;
    BITS_NOT "bitwise_not" Integer Plain 1 "~a" whole |a, _| !a, |a, _, _| a, None;
    SHIFT_LEFT "shift_left" Integer Plain 2 "signed_left(a, b)" uint "unsigned_left(a, b)"
        whole |a, b| if (0..32).contains(&b) { a << b } else { 0 }, |a, _, _| a, None;
    // Whole words are shifted out to copies of the sign.
    SHIFT_RIGHT "shift_right" Integer Plain 2 "signed_right(a, b)" uint "unsigned_right(a, b)"
        whole |a, b| if (0..32).contains(&b) { a >> b } else { a >> 32 }, |a, _, _| a, None;
}
