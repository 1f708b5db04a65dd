// What a step multiplies forward: the state before it, [rows, hidden], with the transposed weight, [lines, hidden]. An element a place.
//
// states  [steps + 1, rows, hidden]: slot `p.before` has the state before the step, `p.here` gets the one behind it.
// Asks for: `lines_of(unit)`, the lines of the weight that a lane multiplies with; beside it `columns(at, k)`, an element of each.

fn state(i: u32) -> f32 {
    return states[i];
}

fn put_state(i: u32, value: f32) {
    states[i] = value;
}

fn left_start(rows: vec4<u32>) -> vec4<u32> {
    return (p.before * p.rows + rows) * p.hidden;
}

fn left(at: u32) -> f32 {
    return states[at];
}

// Lines past the edge read the last one; their sums go nowhere.
fn right_start(unit: u32) -> vec4<u32> {
    return min(lines_of(unit), vec4<u32>(p.lines - 1u)) * p.hidden;
}
