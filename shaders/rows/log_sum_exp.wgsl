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

// A state whose lanes are joined, where they are of one row: what a workgroup's lanes exchange is a quarter then.
struct Joined {
    top: G,
    sum: G,
    bad: G,
}

fn narrow(state: State) -> Joined {
    let top = lanes_max(state.top);
    let sum = lanes_sum(state.sum * exp_down(state.top - top));
    return Joined(narrow_value(top), narrow_value(sum), narrow_value(lanes_sum(state.bad)));
}

fn wide(joined: Joined) -> State {
    return State(wide_value(joined.top), wide_value(joined.sum), wide_value(joined.bad));
}

// One exponential: the sum below the higher maximum is scaled, the other's factor is 1.
fn join(a: Joined, b: Joined) -> Joined {
    let scale = narrow_value(exp_down(wide_value(-abs(a.top - b.top))));
    let sum = select(a.sum * scale + b.sum, a.sum + b.sum * scale, a.top >= b.top);
    return Joined(max(a.top, b.top), sum, a.bad + b.bad);
}

// The sum is NaN where the row has none.
fn closed_sum(state: State) -> State {
    let nan = bitcast<F>(U(0x7fc00000u + p.zero));
    return State(state.top, select(nan, state.sum, (state.sum > F(0.0)) & (state.bad == F(0.0))), state.bad);
}
