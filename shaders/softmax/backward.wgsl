// Gradient of softmax y, or with `const LOG: bool` of log-softmax y, along one axis:
//   dx = y (dy - sum(y dy))   or   dx = dy - exp(y) sum(dy).
//
// Operands: dy (through prologue), y, result (through epilogue). For `rows/loop.wgsl`.

alias Row = u32;
alias State = F;

struct Item {
    grad: F,
    output: F,
}

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
