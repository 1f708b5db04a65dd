// Products of blocks in workgroup memory: what the GPU kernels of matrix products and convolutions have in common.
//   c[i, j] = sum over k < count of a[i, k] * b[k, j], added in ascending k
//
// A workgroup forms a SIDE x SIDE block of c from slabs of 16 along k. An invocation brings one patch of 4 x 4 elements of a
// or b into workgroup memory a slab (the next slab's patch is read into registers while this one is multiplied) and keeps
// 4 x 4 elements of c in registers, 8 x 4 with TALL, 8 x 8 with TALL and WIDE.
//
// Workgroup memory holds quads (4 rows of a, 4 columns of b) by k; 2 * (k / 4) is added to the number of a quad modulo 2 to a
// power, so that patches along k and quads along rows are both written and read without bank conflicts. Padding would do
// too, but 128 x 128 fills the 16,384 bytes that every adapter has. A quad is written as a whole: WGSL lets a write to one
// component touch the others.
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
//   fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32>     columns: k, k + 1, k + 2, k + 3; rows: row .. row + 3
//   fn b_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32>     columns: k, ..; rows: column .. column + 3
//                                 both 0 where k is past the end; what lies past the last row or column is never stored
//   fn store(block: Block, row: u32, column: u32, values: vec4<f32>)    four columns of a row, past the edge or not
//   A_ALONG_DEPTH, B_ALONG_DEPTH: bool    neighbours in memory are neighbours along k: steers which patch an invocation brings
// and may call place_of (`tiles/place.wgsl`).
// Workgroup: (SIDE / 4) ^ 2 / (1, 2 or 4) = 64, 128 or 256 invocations.
// Loops: ceil(count / 16) * 17 + 8 iterations an invocation.

const SLAB: u32 = 16u;
const QUADS: u32 = SIDE / 4u;
const X_THREADS: u32 = QUADS / select(1u, 2u, WIDE);
const Y_THREADS: u32 = QUADS / select(1u, 2u, TALL);
const THREADS: u32 = X_THREADS * Y_THREADS;
const EACH_ROWS: u32 = select(4u, 8u, TALL);

var<workgroup> a_tile: array<vec4<f32>, SLAB * QUADS>;
var<workgroup> b_tile: array<vec4<f32>, SLAB * QUADS>;

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
    let patch_at = patch_k * QUADS + (patch_quad ^ (2u * patch_step));
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

    var s0 = vec4<f32>();
    var s1 = vec4<f32>();
    var s2 = vec4<f32>();
    var s3 = vec4<f32>();
    var s4 = vec4<f32>();
    var s5 = vec4<f32>();
    var s6 = vec4<f32>();
    var s7 = vec4<f32>();
    var t0 = vec4<f32>();
    var t1 = vec4<f32>();
    var t2 = vec4<f32>();
    var t3 = vec4<f32>();
    var t4 = vec4<f32>();
    var t5 = vec4<f32>();
    var t6 = vec4<f32>();
    var t7 = vec4<f32>();

    var patch_next: mat4x4<f32>;
    if brings_a {
        patch_next = a_patch(block, slot, patch_k);
    } else {
        patch_next = b_patch(block, slot, patch_k);
    }
    for (var slab = 0u; slab < block.count; slab += SLAB) {
        if brings_a {
            a_tile[patch_at] = patch_next[0];
            a_tile[patch_at + QUADS] = patch_next[1];
            a_tile[patch_at + 2u * QUADS] = patch_next[2];
            a_tile[patch_at + 3u * QUADS] = patch_next[3];
        } else {
            b_tile[patch_at] = patch_next[0];
            b_tile[patch_at + QUADS] = patch_next[1];
            b_tile[patch_at + 2u * QUADS] = patch_next[2];
            b_tile[patch_at + 3u * QUADS] = patch_next[3];
        }
        workgroupBarrier();
        if slab + SLAB < block.count {
            if brings_a {
                patch_next = a_patch(block, slot, slab + SLAB + patch_k);
            } else {
                patch_next = b_patch(block, slot, slab + SLAB + patch_k);
            }
        }
        for (var k = 0u; k < SLAB; k++) {
            let turn = 2u * (k / 4u);
            let at = k * QUADS;
            let a0 = a_tile[at + (y ^ turn)];
            let b0 = b_tile[at + (x ^ turn)];
            s0 += a0.x * b0;
            s1 += a0.y * b0;
            s2 += a0.z * b0;
            s3 += a0.w * b0;
            if TALL {
                let a1 = a_tile[at + ((y + Y_THREADS) ^ turn)];
                s4 += a1.x * b0;
                s5 += a1.y * b0;
                s6 += a1.z * b0;
                s7 += a1.w * b0;
                if WIDE {
                    let b1 = b_tile[at + ((x + X_THREADS) ^ turn)];
                    t0 += a0.x * b1;
                    t1 += a0.y * b1;
                    t2 += a0.z * b1;
                    t3 += a0.w * b1;
                    t4 += a1.x * b1;
                    t5 += a1.y * b1;
                    t6 += a1.z * b1;
                    t7 += a1.w * b1;
                }
            }
        }
        workgroupBarrier();
    }

    // Store the first row and move the others up: one copy of the epilogue a column instead of one an element.
    let column = block.column + 4u * x;
    for (var i = 0u; i < EACH_ROWS; i++) {
        let row = block.row + 4u * (y + i / 4u * Y_THREADS) + i % 4u;
        store(block, row, column, s0);
        s0 = s1;
        s1 = s2;
        s2 = s3;
        s3 = s4;
        s4 = s5;
        s5 = s6;
        s6 = s7;
        if WIDE {
            store(block, row, column + 4u * X_THREADS, t0);
            t0 = t1;
            t1 = t2;
            t2 = t3;
            t3 = t4;
            t4 = t5;
            t5 = t6;
            t6 = t7;
        }
    }
}
