// Mean and sum of squared differences from it in one pass (Welford 1962); parts are joined as Chan, Golub and LeVeque (1979)
// do. With `const CENTRED: bool` false, the mean is taken to be 0. Whether the lanes of a value are parts
// of one sum says `rows/lanes_joined.wgsl` or `rows/lanes_apart.wgsl`.
//
// Elements are taken less the first of their row, a difference that is exact where they are alike, and the mean stays apart
// from it: a mean of 10^4 in one f32 would be off by 5e-4, and by some times that after a thousand roundings.

struct State {
    // Elements in a lane.
    count: f32,
    mean: F,
    square: F,
}

fn start() -> State {
    return State(0.0, F(0.0), F(0.0));
}

fn take_element(state: State, x: F) -> State {
    let count = state.count + 1.0;
    if CENTRED {
        let delta = x - state.mean;
        let mean = state.mean + delta * (1.0 / count);
        return State(count, mean, state.square + delta * (x - mean));
    }
    return State(count, F(0.0), state.square + x * x);
}

fn join(a: State, b: State) -> State {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let delta = b.mean - a.mean;
    return State(count, a.mean + delta * share, a.square + b.square + delta * delta * (a.count * share));
}

// The lanes joined: they have equal counts.
fn close_lanes(state: State) -> State {
    let mean = lanes_sum(state.mean) * (1.0 / PARTS);
    let apart = state.mean - mean;
    return State(state.count * PARTS, mean, lanes_sum(state.square + apart * apart * state.count));
}
