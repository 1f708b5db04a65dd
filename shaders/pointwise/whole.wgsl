// Whole numbers: quotients, remainders and shifts of integers, and the remainder of floats, which is formed of whole numbers.
// Lanes as in `functions.wgsl`.

// a / b of integers as WGSL defines it: a where b is 0, and the least number over -1 is itself. It is said here, because no
// check of the driver's compiler stands behind these texts, and hardware leaves both open.
fn signed_quotient(a: I, b: I) -> I {
    let open = (b == I(0)) | ((a == I(-2147483648)) & (b == I(-1)));
    return a / select(b, I(1), open);
}

fn unsigned_quotient(a: U, b: U) -> U {
    return a / select(b, U(1u), b == U(0u));
}

// a - (a / b) b, as WGSL defines it: 0 where b is 0.
fn signed_remainder(a: I, b: I) -> I {
    return select(a - signed_quotient(a, b) * b, I(0), b == I(0));
}

fn unsigned_remainder(a: U, b: U) -> U {
    return select(a - unsigned_quotient(a, b) * b, U(0u), b == U(0u));
}

// That with the sign of b.
fn signed_floor_remainder(a: I, b: I) -> I {
    let rest = signed_remainder(a, b);
    return select(rest, rest + b, (rest != I(0)) & ((rest ^ b) < I(0)));
}

// Shifts by 32 and more, or by less than 0, leave what shifting bit by bit leaves: nothing, or the sign.
fn signed_left(a: I, b: I) -> I {
    let by = bitcast<U>(b);
    return select(a << (by & U(31u)), I(0), by > U(31u));
}

fn unsigned_left(a: U, b: U) -> U {
    return select(a << (b & U(31u)), U(0u), b > U(31u));
}

fn signed_right(a: I, b: I) -> I {
    return a >> min(bitcast<U>(b), U(31u));
}

fn unsigned_right(a: U, b: U) -> U {
    return select(a >> (b & U(31u)), U(0u), b > U(31u));
}

// What is left of a division: `rest`, to be moved up by `left` bits more, of a `divisor`.
struct Division {
    rest: U,
    left: U,
    divisor: U,
}

// Eight bits at most: a rest of 24 bits, moved up by as many, fits a word.
fn divided_8(d: Division) -> Division {
    let by = min(d.left, U(8u));
    return Division((d.rest << by) % d.divisor, d.left - by, d.divisor);
}

fn divided_32(d: Division) -> Division {
    return divided_8(divided_8(divided_8(divided_8(d))));
}

fn divided_128(d: Division) -> Division {
    return divided_32(divided_32(divided_32(divided_32(d))));
}

// The remainder of floats, exact whatever the quotient, with the sign of a: a and b are whole multiples of powers of 2, and the larger
// power is divided by b eight bits at a time. No loop: those of a software driver end after some rounds, and these would count.
fn remainder_of_size(a: F, b: F) -> F {
    let a_bits = bitcast<U>(a) & U(0x7fffffffu);
    let b_bits = bitcast<U>(b) & U(0x7fffffffu);
    let a_power = max(a_bits >> U(23u), U(1u));
    let b_power = max(b_bits >> U(23u), U(1u));
    let a_whole = (a_bits & U(0x7fffffu)) | select(U(0u), U(0x800000u), a_bits > U(0x7fffffu));
    let b_whole = (b_bits & U(0x7fffffu)) | select(U(0u), U(0x800000u), b_bits > U(0x7fffffu));
    let less = a_bits < b_bits;
    let divisor = select(b_whole, U(1u), b_whole == U(0u));
    var d = divided_8(Division(a_whole % divisor, select(a_power - b_power, U(0u), less), divisor));
    if any(d.left > U(0u)) {
        d = divided_32(d);
        if any(d.left > U(0u)) {
            d = divided_128(divided_128(d));
        }
    }
    // The rest times 2^(b_power - 150): its bits as a float with another exponent, or as a number below the normal ones.
    let bits = bitcast<U>(F(d.rest));
    let power = I(bits >> U(23u)) + I(b_power) - I(150);
    let normal = bits + ((b_power - U(150u)) << U(23u));
    let below = d.rest << ((b_power - U(1u)) & U(31u));
    let size = select(select(below, normal, power > I(0)), U(0u), d.rest == U(0u));
    let value = select(bitcast<F>(size), abs(a), less);
    let open = (a_bits >= U(0x7f800000u)) | (b_bits > U(0x7f800000u)) | (b_bits == U(0u));
    return select(signed_as(value, a), to_nan(a), open);
}

// That with the sign of b.
fn floor_remainder(a: F, b: F) -> F {
    let rest = remainder_of_size(a, b);
    let other = (bitcast<U>(rest) ^ bitcast<U>(b)) >= U(0x80000000u);
    return select(rest, rest + b, other & (rest != F(0.0)) & !is_nan(rest));
}
