// What becomes of a step, decided by one workgroup from the sum of squares of all its gradients:
//
//   norm = sqrt(sum) / scale;  factor = min(1, largest / (norm + 1e-6)) / scale where `largest` is not 0, else 1 / scale
//   (clip_grad_norm_ of PyTorch); skipped: the loss or a gradient is not finite, here or in an earlier pass of the step, or a norm to
//   be clipped is beyond f32
//
// Without loss scaling the scale is 1, and a skipped step is an error (1). With it (the schedule of torch.amp.GradScaler):
//   good step:     good += 1; where good reaches the interval, scale <- scale growth and good <- 0
//   skipped step:  scale <- scale backoff and good <- 0; below the floor the scale stays, the error is 2, and the floor
//                  stands for the factor
//
// status[0] = (norm, factor, 1 if skipped, error); the rest of `status` is what `optim/settle.wgsl` says.
//
// status    as above
// scaling   [3], (scale, good steps, 1 where an earlier pass of this step has been refused)
// operands  host numbers, from word p.word on: largest norm, growth, backoff, interval; floor, 1 without loss scaling, 0, 0
//
// `finish(sum, bad, group)` is called by one invocation, `settle(lane)` then by all. Asks for: `optim/settle.wgsl`;
// `accept(yes)`, which leaves the verdict for states; `refuses_loss()`; p.word.

// 1 if the step is skipped.
var<workgroup> verdict: f32;

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn finish(sum: f32, bad: f32, group: u32) {
    let settings = factor(p.word / 4u);
    let largest = settings.x;
    let limits = factor(p.word / 4u + 1u);
    let floor_scale = limits.x;
    let strict = limits.y != 0.0;
    let scale = scaling[0];
    let norm = sqrt(sum) / scale;
    var share = 1.0;
    var skipped = bad > 0.0 || refuses_loss() || scaling[2] != 0.0;
    scaling[2] = 0.0;
    if largest > 0.0 {
        share = min(1.0, largest / (norm + 1e-6));
        // A norm beyond f32 has no factor.
        skipped = skipped || !is_finite(norm);
    }
    share /= scale;
    var error = 0.0;
    if strict {
        error = f32(skipped);
    } else {
        var good = scaling[1] + 1.0;
        var next = scale;
        if skipped {
            good = 0.0;
            if scale * settings.z < floor_scale {
                error = 2.0;
                share = floor_scale;
            } else {
                next = scale * settings.z;
            }
        } else if good >= settings.w {
            good = 0.0;
            let grown = scale * settings.y;
            next = select(scale, grown, is_finite(grown));
        }
        scaling[0] = next;
        scaling[1] = good;
    }
    status[0] = vec4<f32>(norm, share, f32(skipped), error);
    verdict = f32(skipped);
    accept(!skipped);
}

fn settle(lane: u32) {
    workgroupBarrier();
    settle_parameters(lane, verdict != 0.0);
}
