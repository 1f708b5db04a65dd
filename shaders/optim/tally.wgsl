// What becomes of a step, decided by one workgroup from the sum of squares of all its gradients:
//
//   norm = sqrt(sum) / scale;  factor = min(1, largest / (norm + 1e-6)) / scale where `largest` is not 0, else 1 / scale
//   (clip_grad_norm_ of PyTorch); skipped: the loss or a gradient is not finite, or a norm to be clipped is beyond f32
//
// Without loss scaling the scale is 1, and a skipped step is an error (1). With it (the schedule of torch.amp.GradScaler):
//   good step:     good += 1; where good reaches the interval, scale <- scale growth and good <- 0
//   skipped step:  scale <- scale backoff and good <- 0; below the floor the scale stays, the error is 2, and the floor
//                  stands for the factor
//
// Then, unless the step is skipped, count <- count + 1 for each parameter that is updated; and what the update of each class
// of parameters needs: status[class] = (correction for its count, factor, 1 if skipped). status[0] = (norm, factor, 1 if
// skipped, error).
//
// status    as above
// scaling   [2], (scale, good steps)
// counts    [parameters], u32
// members   [parameters]: 0 not updated, 1 updated, 1 + class where it stands for its class
// operands  host numbers, from word p.word on: largest norm, growth, backoff, interval; floor, 1 without loss scaling, 0, 0;
//           constants of the correction
//
// `finish(sum, bad, group)` is called by one invocation, `settle(lane)` then by all. Asks for: `correction(constants, count)` of the
// rule; `accept(yes)`, which leaves the verdict for states; `refuses_loss()`; p.word and p.parameters.

// (factor, 1 if the step is skipped).
var<workgroup> verdict: vec2<f32>;

fn setting(vector: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(operands[p.word / 4u + vector]);
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// 1 - b^count, with all its digits, where log.x + log.y = ln b, and log.x has so few bits that its product with a count below
// 4096 is exact: 1 - e^x by a series within 0.5, else by 1 - e^2x = (1 - e^x) (1 + e^x), which makes a relative error no
// larger.
fn one_minus_power(log: vec2<f32>, count: u32) -> f32 {
    var y = max(f32(count) * log.x + f32(count) * log.y, -100.0);
    var doublings = 0u;
    while y < -0.5 {
        y *= 0.5;
        doublings++;
    }
    let tail = 1.0 + y * (1.0 / 6.0) * (1.0 + y * (1.0 / 7.0) * (1.0 + y * 0.125 * (1.0 + y * (1.0 / 9.0))));
    var u = -y * (1.0 + y * 0.5 * (1.0 + y * (1.0 / 3.0) * (1.0 + y * 0.25 * (1.0 + y * 0.2 * tail))));
    for (; doublings > 0u; doublings--) {
        u = u * (2.0 - u);
    }
    return u;
}

fn finish(sum: f32, bad: f32, group: u32) {
    let settings = setting(0u);
    let largest = settings.x;
    let floor_scale = setting(1u).x;
    let strict = setting(1u).y != 0.0;
    let scale = scaling[0];
    let norm = sqrt(sum) / scale;
    var factor = 1.0;
    var skipped = bad > 0.0 || refuses_loss();
    if largest > 0.0 {
        factor = min(1.0, largest / (norm + 1e-6));
        // A norm beyond f32 has no factor.
        skipped = skipped || !is_finite(norm);
    }
    factor /= scale;
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
                factor = floor_scale;
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
    status[0] = vec4<f32>(norm, factor, f32(skipped), error);
    verdict = vec2<f32>(factor, f32(skipped));
    accept(!skipped);
}

fn settle(lane: u32) {
    workgroupBarrier();
    let skipped = verdict.y != 0.0;
    let constants = setting(2u);
    for (var number = lane; number < p.parameters; number += 64u) {
        let role = u32(members[number]);
        if role == 0u {
            continue;
        }
        var count = counts[number];
        if !skipped {
            count += 1u;
            counts[number] = count;
        }
        if role > 1u {
            status[role - 1u] = vec4<f32>(correction(constants, max(count, 1u)), verdict);
        }
    }
}
