// For software drivers alone: `recurrent/forward.wgsl` four elements a load, which places count. Each lane stores elements of its own.

fn state(i: u32) -> f32 {
    return states[i / 4u][i % 4u];
}

fn put_state(i: u32, value: f32) {
    states[i / 4u][i % 4u] = value;
}

fn left_start(rows: vec4<u32>) -> vec4<u32> {
    return (p.before * p.rows + rows) * (p.hidden / 4u);
}

fn left(at: u32) -> vec4<f32> {
    return states[at];
}

// Lines past the edge read the last one; their sums go nowhere.
fn right_start(unit: u32) -> vec4<u32> {
    return min(lines_of(unit), vec4<u32>(p.lines - 1u)) * (p.hidden / 4u);
}
