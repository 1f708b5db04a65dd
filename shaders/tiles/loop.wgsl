// Products of blocks in workgroup memory: what the GPU kernels of matrix products and convolutions have in common.
//   c[i, j] = sum over k < count of a[i, k] * b[k, j], added in ascending k
//
// A workgroup forms a SIDE x SIDE block of c from slabs of 16 along k. An invocation brings one patch of 4 x 4 elements of a
// or b into workgroup memory a slab (the next slab's patch is read into registers while this one is multiplied) and keeps
// 4 x 4 elements of c in registers, 8 x 4 with TALL, 8 x 8 with TALL and WIDE.
//
// Workgroup memory holds quads (4 rows of a, 4 columns of b) by k, those of the two halves of a block apart, for an invocation
// has one of each; 2 * (k / 4) is added to the number of a quad modulo 2 to a power, so that patches along k and quads along rows are both written and read without bank conflicts. Padding would do
// too, but 128 x 128 fills the 16,384 bytes that every adapter has. A quad is written as a whole: WGSL lets a write to one
// component touch the others.
//
// Four k are a round: a compiler that does not unroll the loop over k forms addresses once for four. Sums are added in the
// same order as one k at a time.
//
// Nothing is an array of an invocation's own: accumulators have names, because compilers that do not unroll a loop keep
// such arrays in memory.
//
// Constants:
//   SIDE = 32, 64 or 128          side of the block
//   TALL, WIDE: bool              see above; 32: neither, 64: TALL, 128: both (every invocation then brings one patch)
// The op has
//   struct Block                  a workgroup's task; members row, column (of its first element), count (of k) and outside
//   struct Slot                   what is known of an invocation's patch before the loop over k
//   fn find_block(group_index: u32) -> Block
//   fn a_slot(block: Block, row: u32) -> Slot, fn b_slot(block: Block, column: u32) -> Slot
//   fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32>     columns: k, k + 1, k + 2, k + 3; rows: row .. row + 3;
//                                 with A_IN_ROWS the other way round: a column holds four k of a row
//   fn b_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32>     columns: k, ..; rows: column .. column + 3; and B_IN_ROWS
//                                 any number where k is past the end, or past the last row or column
//   fn store(block: Block, row: u32, column: u32, values: vec4<f32>)    four columns of a row, past the edge or not
//   A_IN_ROWS, B_IN_ROWS: bool            see a_patch
//   A_ALONG_DEPTH, B_ALONG_DEPTH: bool    neighbours in memory are neighbours along k: steers which patch an invocation brings
// and may call place_of. Beside it: `tiles/place.wgsl`.
// Workgroup: (SIDE / 4) ^ 2 / (1, 2 or 4) = 64, 128 or 256 invocations.
// Loops: ceil(count / 16) * 5 + 8 iterations an invocation.

const SLAB: u32 = 16u;
const STEPS: u32 = SLAB / 4u;
const QUADS: u32 = SIDE / 4u;
const X_THREADS: u32 = QUADS / select(1u, 2u, WIDE);
const Y_THREADS: u32 = QUADS / select(1u, 2u, TALL);
const THREADS: u32 = X_THREADS * Y_THREADS;
const EACH_ROWS: u32 = select(4u, 8u, TALL);

// The second half, or the first again where there is one.
const FAR_A: u32 = select(0u, 1u, TALL);
const FAR_B: u32 = select(0u, 1u, WIDE);

var<workgroup> a_tile: array<array<array<array<vec4<f32>, Y_THREADS>, FAR_A + 1u>, 4>, STEPS>;
var<workgroup> b_tile: array<array<array<array<vec4<f32>, X_THREADS>, FAR_B + 1u>, 4>, STEPS>;

// What an invocation has of c: rows s0 .. s3, with TALL s4 .. s7, and with WIDE the same rows of a second quad of columns.
struct Sums {
    s0: vec4<f32>,
    s1: vec4<f32>,
    s2: vec4<f32>,
    s3: vec4<f32>,
    s4: vec4<f32>,
    s5: vec4<f32>,
    s6: vec4<f32>,
    s7: vec4<f32>,
    t0: vec4<f32>,
    t1: vec4<f32>,
    t2: vec4<f32>,
    t3: vec4<f32>,
    t4: vec4<f32>,
    t5: vec4<f32>,
    t6: vec4<f32>,
    t7: vec4<f32>,
}

// With the products of one k.
fn with_products(sums: Sums, a0: vec4<f32>, a1: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>) -> Sums {
    var next = sums;
    next.s0 += a0.x * b0;
    next.s1 += a0.y * b0;
    next.s2 += a0.z * b0;
    next.s3 += a0.w * b0;
    if TALL {
        next.s4 += a1.x * b0;
        next.s5 += a1.y * b0;
        next.s6 += a1.z * b0;
        next.s7 += a1.w * b0;
    }
    if WIDE {
        next.t0 += a0.x * b1;
        next.t1 += a0.y * b1;
        next.t2 += a0.z * b1;
        next.t3 += a0.w * b1;
        next.t4 += a1.x * b1;
        next.t5 += a1.y * b1;
        next.t6 += a1.z * b1;
        next.t7 += a1.w * b1;
    }
    return next;
}

// The sums without the first row, which has been stored.
fn moved_up(sums: Sums) -> Sums {
    var next = sums;
    next.s0 = sums.s1;
    next.s1 = sums.s2;
    next.s2 = sums.s3;
    next.s3 = sums.s4;
    next.s4 = sums.s5;
    next.s5 = sums.s6;
    next.s6 = sums.s7;
    next.t0 = sums.t1;
    next.t1 = sums.t2;
    next.t2 = sums.t3;
    next.t3 = sums.t4;
    next.t4 = sums.t5;
    next.t5 = sums.t6;
    next.t6 = sums.t7;
    return next;
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let block = find_block(group.x + group.y * group_count.x);
    if block.outside {
        return;
    }
    // The first half brings a, the second b.
    let brings_a = local < THREADS / 2u;
    let patch_number = local % (THREADS / 2u);
    let along_depth = select(B_ALONG_DEPTH, A_ALONG_DEPTH, brings_a);
    let patch_quad = select(patch_number % QUADS, patch_number / 4u, along_depth);
    let patch_step = select(patch_number / QUADS, patch_number % 4u, along_depth);
    let patch_k = 4u * patch_step;
    let patch_turned = patch_quad ^ (2u * patch_step);
    var slot: Slot;
    if brings_a {
        slot = a_slot(block, block.row + 4u * patch_quad);
    } else {
        slot = b_slot(block, block.column + 4u * patch_quad);
    }
    // 32 neighbours own 8 x 4 quads of the block, so that they share what they read.
    let warp = local / 32u;
    let x = local % 8u + 8u * (warp % (X_THREADS / 8u));
    let y = local / 8u % 4u + 4u * (warp / (X_THREADS / 8u));

    var sums: Sums;
    var patch_next: mat4x4<f32>;
    if brings_a {
        patch_next = a_patch(block, slot, patch_k);
    } else {
        patch_next = b_patch(block, slot, patch_k);
    }
    for (var slab = 0u; slab < block.count; slab += SLAB) {
        if slab + SLAB > block.count {
            patch_next = without_rest(patch_next, select(B_IN_ROWS, A_IN_ROWS, brings_a), slab + patch_k, block.count);
        }
        if brings_a {
            let half = patch_turned / Y_THREADS;
            let at = patch_turned % Y_THREADS;
            a_tile[patch_step][0][half][at] = at_k(patch_next, A_IN_ROWS, 0u);
            a_tile[patch_step][1][half][at] = at_k(patch_next, A_IN_ROWS, 1u);
            a_tile[patch_step][2][half][at] = at_k(patch_next, A_IN_ROWS, 2u);
            a_tile[patch_step][3][half][at] = at_k(patch_next, A_IN_ROWS, 3u);
        } else {
            let half = patch_turned / X_THREADS;
            let at = patch_turned % X_THREADS;
            b_tile[patch_step][0][half][at] = at_k(patch_next, B_IN_ROWS, 0u);
            b_tile[patch_step][1][half][at] = at_k(patch_next, B_IN_ROWS, 1u);
            b_tile[patch_step][2][half][at] = at_k(patch_next, B_IN_ROWS, 2u);
            b_tile[patch_step][3][half][at] = at_k(patch_next, B_IN_ROWS, 3u);
        }
        workgroupBarrier();
        if slab + SLAB < block.count {
            if brings_a {
                patch_next = a_patch(block, slot, slab + SLAB + patch_k);
            } else {
                patch_next = b_patch(block, slot, slab + SLAB + patch_k);
            }
        }
        for (var step = 0u; step < STEPS; step++) {
            let turn = 2u * step;
            let y_turned = y ^ turn;
            let x_turned = x ^ turn;
            // Sixteen quads at once are more than there are registers; less, and reads are under way together.
            if WIDE {
                sums = with_products(
                    sums,
                    a_tile[step][0][0][y_turned],
                    a_tile[step][0][FAR_A][y_turned],
                    b_tile[step][0][0][x_turned],
                    b_tile[step][0][FAR_B][x_turned],
                );
                sums = with_products(
                    sums,
                    a_tile[step][1][0][y_turned],
                    a_tile[step][1][FAR_A][y_turned],
                    b_tile[step][1][0][x_turned],
                    b_tile[step][1][FAR_B][x_turned],
                );
                sums = with_products(
                    sums,
                    a_tile[step][2][0][y_turned],
                    a_tile[step][2][FAR_A][y_turned],
                    b_tile[step][2][0][x_turned],
                    b_tile[step][2][FAR_B][x_turned],
                );
                sums = with_products(
                    sums,
                    a_tile[step][3][0][y_turned],
                    a_tile[step][3][FAR_A][y_turned],
                    b_tile[step][3][0][x_turned],
                    b_tile[step][3][FAR_B][x_turned],
                );
            } else {
                let first_a0 = a_tile[step][0][0][y_turned];
                let first_a1 = a_tile[step][0][FAR_A][y_turned];
                let first_b = b_tile[step][0][0][x_turned];
                let second_a0 = a_tile[step][1][0][y_turned];
                let second_a1 = a_tile[step][1][FAR_A][y_turned];
                let second_b = b_tile[step][1][0][x_turned];
                let third_a0 = a_tile[step][2][0][y_turned];
                let third_a1 = a_tile[step][2][FAR_A][y_turned];
                let third_b = b_tile[step][2][0][x_turned];
                let last_a0 = a_tile[step][3][0][y_turned];
                let last_a1 = a_tile[step][3][FAR_A][y_turned];
                let last_b = b_tile[step][3][0][x_turned];
                sums = with_products(sums, first_a0, first_a1, first_b, first_b);
                sums = with_products(sums, second_a0, second_a1, second_b, second_b);
                sums = with_products(sums, third_a0, third_a1, third_b, third_b);
                sums = with_products(sums, last_a0, last_a1, last_b, last_b);
            }
        }
        workgroupBarrier();
    }

    // Store the first row and move the others up: one copy of the epilogue a column instead of one an element.
    let column = block.column + 4u * x;
    for (var i = 0u; i < EACH_ROWS; i++) {
        let row = block.row + 4u * (y + i / 4u * Y_THREADS) + i % 4u;
        store(block, row, column, sums.s0);
        if WIDE {
            store(block, row, column + 4u * X_THREADS, sums.t0);
        }
        sums = moved_up(sums);
    }
}
