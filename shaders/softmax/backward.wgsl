// Gradient of softmax y, or with `const LOG: bool` of log-softmax y, along one axis:
//   dx = y (dy - sum(y dy))   or   dx = dy - exp(y) sum(dy).
//
// Bindings: 0 dy (read, through prologue), 1 y (read), 2 result (written, through epilogue). `rows/loop.wgsl` follows.

alias Row = u32;
alias State = F;

struct Item {
    grad: F,
    output: F,
}

@group(0) @binding(1) var<storage, read> outputs: array<F>;
@group(0) @binding(2) var<storage, read_write> result: array<OUT>;

fn begin(row: u32) -> Row {
    return row;
}

fn item(row: u32, j: u32) -> Item {
    let at = place(row, j);
    return Item(prologue(at * LANES), outputs[at]);
}

fn start() -> State {
    return F(0.0);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    if LOG {
        return state + x.grad;
    }
    return state + x.output * x.grad;
}

fn join(a: State, b: State) -> State {
    return a + b;
}

fn close(state: State, begun: Row) -> State {
    return lanes_sum(state);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    if LOG {
        return x.grad - exp_full(x.output) * state;
    }
    return x.output * (x.grad - state);
}
