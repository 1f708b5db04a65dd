// `optim/settle.wgsl` for a rule that does not pass the verdict itself: another of the same step has, in status[0].
//
// One workgroup. Iterations: those of `settle_parameters`.

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    settle_parameters(lane, status[0].z != 0.0);
}
