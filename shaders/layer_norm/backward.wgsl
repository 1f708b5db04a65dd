// Gradient of the normalised rows: with g = dy w, h = (x - mean) r and m for the mean over the row,
//   dx = r (g - m(g) - h m(g h)),   or without m(g) where `const CENTRED: bool` is false.
//
// Operands: dy (through prologue), x, statistics [rows, 4] (first element, r, mean less it), w [n] where there is one, result
// (through epilogue). Asks for `affine(x, j)`, which applies w. For `rows/loop.wgsl`.

alias Row = vec4<f32>;

struct Item {
    grad: F,
    normal: F,
}

struct State {
    sum: F,
    dot: F,
}

fn begin(row: u32) -> Row {
    return statistics[row];
}

fn item(row: u32, j: u32) -> Item {
    let at = place(row, j);
    return Item(affine(prologue(at * LANES), j), input[at]);
}

fn start() -> State {
    return State(F(0.0), F(0.0));
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    let normal = ((x.normal - begun.x) - begun.z) * begun.y;
    return State(state.sum + x.grad, state.dot + x.grad * normal);
}

fn join(a: State, b: State) -> State {
    return State(a.sum + b.sum, a.dot + b.dot);
}

fn close(state: State, begun: Row) -> State {
    let share = 1.0 / f32(p.count);
    return State(lanes_sum(state.sum) * share, lanes_sum(state.dot) * share);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    let normal = ((x.normal - begun.x) - begun.z) * begun.y;
    let mean = select(F(0.0), state.sum, CENTRED);
    return (x.grad - mean - normal * state.dot) * begun.y;
}
