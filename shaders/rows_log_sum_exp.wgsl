// The maximum m of each row and s = sum exp(x - m), in one pass: the state keeps the maximum so far and the sum scaled
// by it (Milakov and Gimelshein 2018). A row with NaN or +inf, or with nothing but -inf, has the sum NaN, as in PyTorch;
// the test is of bits, since x != x is no test everywhere. Reads `input`. `rows.wgsl` follows.

// (maximum, sum, 1 if the row is to become NaN)
alias State = vec3<f32>;

fn start() -> State {
    // The least float, not -inf: a difference of two infinities would be NaN.
    return State(-3.4028234e38, 0.0, 0.0);
}

fn take(state: State, row: u32, j: u32) -> State {
    let x = input[row_start(row) + j * p.stride];
    let bits = bitcast<u32>(x);
    let bad = (bits & 0x7f800000u) == 0x7f800000u && bits != 0xff800000u;
    if bad {
        return State(state.xy, 1.0);
    }
    if x > state.x {
        return State(x, state.y * exp_full(state.x - x) + 1.0, state.z);
    }
    return State(state.x, state.y + exp_full(x - state.x), state.z);
}

fn join(a: State, b: State) -> State {
    let top = max(a.x, b.x);
    return State(top, a.y * exp_full(a.x - top) + b.y * exp_full(b.x - top), a.z + b.z);
}

// s, or NaN where the row has none.
fn row_sum(state: State) -> f32 {
    let good = state.y > 0.0 && state.z == 0.0;
    return select(bitcast<f32>(0x7fc00000u + p.zero), state.y, good);
}
