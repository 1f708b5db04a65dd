// The maximum m of each row and s = sum exp(x - m), in one pass: the state keeps the maximum so far and the sum scaled
// by it (Milakov and Gimelshein 2018). A row with NaN or +inf, or with nothing but -inf, has the sum NaN, as in PyTorch;
// the test is of bits, since x != x is no test everywhere. For `rows/loop.wgsl`, with `rows/exp_down.wgsl`.

struct State {
    top: F,
    sum: F,
    // Above zero if the row is to become NaN.
    bad: F,
}

fn start() -> State {
    // The least float, not -inf: a difference of two infinities would be NaN.
    return State(F(-3.4028234e38), F(0.0), F(0.0));
}

// One exponential an element: of x - m or of the old maximum less x, whichever is not above 0.
fn take_logit(state: State, x: F) -> State {
    let bits = bitcast<U>(x);
    let bad = ((bits & U(0x7f800000u)) == U(0x7f800000u)) & (bits != U(0xff800000u));
    let scaled = exp_down(-abs(x - state.top));
    let higher = x > state.top;
    let sum = select(state.sum + scaled, state.sum * scaled + F(1.0), higher);
    return State(
        select(select(state.top, x, higher), state.top, bad),
        select(sum, state.sum, bad),
        select(state.bad, F(1.0), bad),
    );
}

fn join(a: State, b: State) -> State {
    let top = max(a.top, b.top);
    return State(top, a.sum * exp_down(a.top - top) + b.sum * exp_down(b.top - top), a.bad + b.bad);
}

// The lanes of a state joined; the sum is NaN where the row has none.
fn close_lanes(state: State) -> State {
    let top = lanes_max(state.top);
    let sum = lanes_sum(state.sum * exp_down(state.top - top));
    let bad = lanes_sum(state.bad);
    let nan = bitcast<F>(U(0x7fc00000u + p.zero));
    return State(top, select(nan, sum, (sum > F(0.0)) & (bad == F(0.0))), bad);
}
