// What folding a row of logits x with a share q_c for each class keeps: the maximum m so far, sum exp(x - m), sum q and, where
// `const APART` is true, sum q (x - m). As in `rows/log_sum_exp.wgsl` the sums are scaled and shifted when the maximum
// rises, and a row with NaN or +inf, or with nothing but -inf, has the sum NaN. For `rows/loop.wgsl`, with `rows/exp_down.wgsl` and
// `cross_entropy/soft_alone.wgsl` or `cross_entropy/soft_labelled.wgsl`.

struct Item {
    share: F,
    logit: F,
}

struct State {
    top: F,
    sum: F,
    // Above zero if the row is to become NaN.
    bad: F,
    total: F,
    apart: F,
}

fn item(row: u32, j: u32) -> Item {
    let at = place(row, j);
    return Item(prologue(at * LANES), logits[at]);
}

fn start() -> State {
    // The least float, not -inf: a difference of two infinities would be NaN.
    return State(F(-3.4028234e38), F(0.0), F(0.0), F(0.0), F(0.0));
}

// sum q (x - m) once the maximum is `higher` by so much. Before any share has come the difference may overflow.
fn shifted(apart: F, total: F, higher: F) -> F {
    return select(apart - total * higher, apart, total == F(0.0));
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    let bits = bitcast<U>(x.logit);
    let bad = ((bits & U(0x7f800000u)) == U(0x7f800000u)) & (bits != U(0xff800000u));
    let scaled = exp_down(-abs(x.logit - state.top));
    let higher = x.logit > state.top;
    let top = select(select(state.top, x.logit, higher), state.top, bad);
    let sum = select(state.sum + scaled, state.sum * scaled + F(1.0), higher);
    var apart = F(0.0);
    if APART {
        apart = shifted(state.apart, state.total, top - state.top) + x.share * (x.logit - top);
    }
    return State(
        top,
        select(sum, state.sum, bad),
        select(state.bad, F(1.0), bad),
        state.total + x.share,
        apart,
    );
}

fn join(a: State, b: State) -> State {
    let top = max(a.top, b.top);
    var apart = F(0.0);
    if APART {
        apart = shifted(a.apart, a.total, top - a.top) + shifted(b.apart, b.total, top - b.top);
    }
    return State(
        top,
        a.sum * exp_down(a.top - top) + b.sum * exp_down(b.top - top),
        a.bad + b.bad,
        a.total + b.total,
        apart,
    );
}

// The lanes of a state joined; the sum is NaN where the row has none.
fn close_soft(state: State) -> State {
    let top = lanes_max(state.top);
    let sum = lanes_sum(state.sum * exp_down(state.top - top));
    let bad = lanes_sum(state.bad);
    let nan = bitcast<F>(U(0x7fc00000u + p.zero));
    var apart = F(0.0);
    if APART {
        apart = lanes_sum(shifted(state.apart, state.total, top - state.top));
    }
    return State(top, select(nan, sum, (sum > F(0.0)) & (bad == F(0.0))), bad, lanes_sum(state.total), apart);
}
