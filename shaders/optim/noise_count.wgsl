// Counts the steps that are no errors, for `optim/noise.wgsl`.
//
// steps   [1]
// status  as `optim/tally.wgsl` left it
// One workgroup.

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    if lane == 0u && status[0].w == 0.0 {
        steps[0] += 1u;
    }
}
