// Gradient of normalised rows, several rows a workgroup, with partial gradients of weight and bias: with g = dy w,
// h = (x - mean) r and m for the mean over the row,
//   dx = r (g - m(g) - h m(g h)),   or without m(g) where `const CENTRED: bool` is false,
//   parts[workgroup] = sum over its rows of (dy h, dy).
//
// mean, r and both means are formed in one read of dy and x: the sum of g (x - mean) is kept for the mean so far, as the
// sum of squares is (Welford 1962; Chan, Golub and LeVeque 1979), so nothing cancels where the mean is large. Elements are
// taken less the first of their row, as in `rows/moments.wgsl`.
//
// Operands: dy (through prologue), x, w [n] where there is one, result (through epilogue), parts [workgroups, 2, n]. Asks for
// `affine(x, column)`, which applies w, and `column(j, half)`, which reads it. For `rows/block.wgsl`, which says what the
// functions are.

struct Item {
    grad: F,
    x: F,
}

struct State {
    // Elements in a lane.
    count: f32,
    mean: F,
    square: F,
    // Sums of g and of g (x - mean).
    sum: F,
    dot: F,
}

struct Sums {
    weight: F,
    bias: F,
}

fn item(row: u32, j: u32, half: u32) -> Item {
    let at = place(row, j);
    return Item(first_at(at, half), value_of(input[at], half));
}

fn begin(row: u32) -> F {
    if CENTRED {
        return lanes_first(value_of(input[place(row, 0u)], 0u));
    }
    return F(0.0);
}

fn start() -> State {
    return State(0.0, F(0.0), F(0.0), F(0.0), F(0.0));
}

fn take(state: State, item: Item, shared_by_rows: Column, begun: F) -> State {
    let x = item.x - begun;
    let grad = affine(item.grad, shared_by_rows);
    let count = state.count + 1.0;
    if CENTRED {
        let delta = x - state.mean;
        let step = delta * (1.0 / count);
        let mean = state.mean + step;
        let apart = x - mean;
        let dot = state.dot - state.sum * step + grad * apart;
        return State(count, mean, state.square + delta * apart, state.sum + grad, dot);
    }
    return State(count, F(0.0), state.square + x * x, F(0.0), state.dot + grad * x);
}

fn join(a: State, b: State) -> State {
    let count = a.count + b.count;
    let share = b.count / max(count, 1.0);
    let delta = b.mean - a.mean;
    let step = delta * share;
    let square = a.square + b.square + delta * delta * (a.count * share);
    let dot = (a.dot - a.sum * step) + (b.dot + b.sum * (delta - step));
    return State(count, a.mean + step, square, a.sum + b.sum, dot);
}

// The lanes of a value joined: they have equal counts.
fn close(state: State) -> State {
    let mean = lanes_sum(state.mean) * (1.0 / PARTS);
    let apart = state.mean - mean;
    let square = lanes_sum(state.square + apart * apart * state.count);
    return State(state.count * PARTS, mean, square, lanes_sum(state.sum), lanes_sum(state.dot + state.sum * apart));
}

fn keep(state: State, begun: F) -> Kept {
    let share = 1.0 / f32(p.count);
    let scale = 1.0 / sqrt(lane_of(state.square, 0u) * share + p.number);
    let slope = lane_of(state.dot, 0u) * scale * share;
    return Kept(lane_of(begun, 0u), lane_of(state.mean, 0u), scale, lane_of(state.sum, 0u) * share, slope);
}

fn value(kept: Kept, item: Item, shared_by_rows: Column) -> F {
    let normal = ((item.x - kept.first) - kept.mean) * kept.scale;
    return (affine(item.grad, shared_by_rows) - kept.sum - normal * kept.slope) * kept.scale;
}

fn no_sums() -> Sums {
    return Sums(F(0.0), F(0.0));
}

fn add(sums: Sums, kept: Kept, item: Item) -> Sums {
    return Sums(sums.weight + item.grad * (((item.x - kept.first) - kept.mean) * kept.scale), sums.bias + item.grad);
}

fn put_sums(part: u32, j: u32, sums: Sums, high_sums: Sums) {
    parts[2u * part * p.length + j] = stored(sums.weight, high_sums.weight);
    parts[(2u * part + 1u) * p.length + j] = stored(sums.bias, high_sums.bias);
}
