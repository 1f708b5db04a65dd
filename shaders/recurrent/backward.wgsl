// What a step multiplies backward: the gradient of the next step's products, [rows, lines], with the weight, [lines, hidden]. An element
// a place; a lane has four units.
//
// d  [steps + 1, rows, lines]: slot `p.here` has the next step's, zeros behind the last; `p.before` gets this one's.
// Asks for: `back(row, unit, product)`, what a cell makes of the product of one unit, an F.

alias V = vec4<f32>;
const UNITS: u32 = 4u;
// Elements of an F.
const WIDTH: u32 = 1u;

fn left_start(rows: vec4<u32>) -> vec4<u32> {
    return (p.here * p.rows + rows) * p.lines;
}

fn left(at: u32) -> f32 {
    return d[at];
}

// Units past the edge read the last one; their sums go nowhere.
fn right_start(unit: u32) -> vec4<u32> {
    return min(unit + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.hidden - 1u));
}

fn columns(at: vec4<u32>, k: u32) -> vec4<f32> {
    let own = at + k * p.hidden;
    return vec4<f32>(weight[own.x], weight[own.y], weight[own.z], weight[own.w]);
}

fn finish(row: u32, unit: u32, sum: vec4<f32>) {
    let end = min(unit + 4u, p.hidden);
    var one = unit;
    loop {
        let i = one - unit;
        back(row, one, select(select(sum.x, sum.y, i == 1u), select(sum.z, sum.w, i == 3u), i > 1u));
        one++;
        if one >= end {
            break;
        }
    }
}
