// Products of tiles in workgroup memory, for attention on GPUs: 32 queries by 32 keys, 64 invocations. Invocation (x, y) of
// 8 x 8 has rows 4 y .. 4 y + 3 and columns x, x + 8, x + 16, x + 24.
//
// binding 0  queries  [planes, queries, features]
// binding 1  keys     [planes / groups, keys, features]
// binding 2  values   [planes / groups, keys, values]
// binding 3  dy       [planes, queries, values], where there is one
//
// Asks for: fn element(which: u32, at: u32) -> f32   of this binding
//           fn quad(which: u32, number: u32) -> vec4<f32>   the same of four, from element 4 * number on
// Constant: QUADS, true if all lines are multiples of four long.
// Workgroup memory: 9 KiB, and what the op adds.

const SIDE: u32 = 32u;
// Vectors a row of a slab: one more than it has, so that rows begin in other banks.
const PITCH: u32 = 5u;
// Numbers a row of a tile of weights.
const WIDTH: u32 = 33u;

var<workgroup> left_slab: array<vec4<f32>, 160>;
var<workgroup> right_slab: array<vec4<f32>, 160>;
var<workgroup> weights: array<f32, 1056>;
var<workgroup> parts: array<f32, 256>;

// Four numbers of a line from column `column` on; 0 past its end.
fn four(which: u32, line: u32, column: u32, width: u32) -> vec4<f32> {
    if QUADS {
        let is_there = column < width;
        return select(vec4<f32>(), quad(which, select(0u, line * width + column, is_there) / 4u), is_there);
    }
    let at = vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u);
    let inside = at < vec4<u32>(width);
    let place = select(vec4<u32>(), vec4<u32>(line * width) + at, inside);
    let all = vec4<f32>(element(which, place.x), element(which, place.y), element(which, place.z), element(which, place.w));
    return select(vec4<f32>(), all, inside);
}

// sum + matrix * by, a multiplication and an addition at a time.
fn with_four(sum: vec4<f32>, matrix: mat4x4<f32>, by: vec4<f32>) -> vec4<f32> {
    var whole = sum;
    whole += matrix[0] * by.x;
    whole += matrix[1] * by.y;
    whole += matrix[2] * by.z;
    whole += matrix[3] * by.w;
    return whole;
}

// Rows of the left by rows of the right over their columns: those of queries and keys, or of dy and values. Lines past the
// end are the last one.
fn products(is_second: bool, left: u32, left_end: u32, right: u32, right_end: u32, lane: u32) -> mat4x4<f32> {
    let width = select(p.features, p.values, is_second);
    let of_left = select(0u, 3u, is_second);
    let of_right = select(1u, 2u, is_second);
    let y = lane / 8u;
    let x = lane % 8u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var slab = 0u; slab < width; slab += 16u) {
        workgroupBarrier();
        for (var n = lane; n < 128u; n += 64u) {
            let row = n / 4u;
            let column = slab + n % 4u * 4u;
            left_slab[row * PITCH + n % 4u] = four(of_left, min(left + row, left_end - 1u), column, width);
            right_slab[row * PITCH + n % 4u] = four(of_right, min(right + row, right_end - 1u), column, width);
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let columns = transpose(mat4x4<f32>(
                right_slab[x * PITCH + c],
                right_slab[(x + 8u) * PITCH + c],
                right_slab[(x + 16u) * PITCH + c],
                right_slab[(x + 24u) * PITCH + c],
            ));
            let first = 4u * y * PITCH + c;
            sum0 = with_four(sum0, columns, left_slab[first]);
            sum1 = with_four(sum1, columns, left_slab[first + PITCH]);
            sum2 = with_four(sum2, columns, left_slab[first + 2u * PITCH]);
            sum3 = with_four(sum3, columns, left_slab[first + 3u * PITCH]);
        }
    }
    return mat4x4<f32>(sum0, sum1, sum2, sum3);
}

// Where query `query` and key `key` of a tile's weight is.
fn place_of(query: u32, key: u32) -> u32 {
    return query * WIDTH + key;
}

// Four weights of a query, of keys from `key` on.
fn weights_of(query: u32, key: u32) -> vec4<f32> {
    let at = place_of(query, key);
    return vec4<f32>(weights[at], weights[at + 1u], weights[at + 2u], weights[at + 3u]);
}

// Four numbers of each of four lines from `line` on; lines past the end are the last one.
fn lines(which: u32, line: u32, end: u32, column: u32, width: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        four(which, min(line, end - 1u), column, width),
        four(which, min(line + 1u, end - 1u), column, width),
        four(which, min(line + 2u, end - 1u), column, width),
        four(which, min(line + 3u, end - 1u), column, width),
    );
}
