// Second pass over the gradient norm under loss scaling, in one workgroup:
//
//   norm = sqrt(sum of partials) / scale;  status = (norm, clip factor / scale, 1 if the update is to be skipped, error)
//   good step:  good += 1; where good reaches the interval, scale <- scale growth and good <- 0
//   else:       scale <- scale backoff and good <- 0; below the floor the scale stays, error = 2, and the floor stands for
//               the factor
//
// then, unless the step is skipped, count <- count + 1 for each parameter that is updated, and its factors: those of its
// group, corrected for the count. (The clip factor is that of clip_status.wgsl, the schedule that of torch.amp.GradScaler.)
// Put in front of this text: `fn corrected(factors, constants, count)` of the rule. Bindings: 0 partial results (read):
// (sum, 1 if not finite), 1 status, 2 (scale, good steps), 3 counts (all written), 4 group of each parameter from 1 on, 0:
// not updated (read), 5 factors, two vectors a parameter (written), 13 operands from word p.word on: largest norm, growth,
// backoff, interval; floor, 0, 0, 0; constants of the correction; two vectors a group.
// Iterations: partials / 64 + 12 parameters / 64.

struct Params {
    partials: u32,
    word: u32,
    parameters: u32,
}

@group(0) @binding(0) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> status: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> state: array<f32>;
@group(0) @binding(3) var<storage, read_write> counts: array<f32>;
@group(0) @binding(4) var<storage, read> members: array<f32>;
@group(0) @binding(5) var<storage, read_write> factors: array<vec4<f32>>;
@group(0) @binding(13) var<uniform> operands: array<vec4<u32>, 1024>;
@group(0) @binding(15) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 64>;
var<workgroup> skip: u32;

fn operand(vector: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(operands[p.word / 4u + vector]);
}

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// 1 - e^x for x <= 0, with all its digits: a series within 0.5, else by 1 - e^2x = (1 - e^x) (1 + e^x), which does not
// make a relative error larger.
fn one_minus_exp(x: f32) -> f32 {
    var y = max(x, -100.0);
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

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>(0.0);
    for (var i = lane; i < p.partials; i += 64u) {
        sum += partial[i];
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u {
        let settings = operand(0u);
        let largest = settings.x;
        let floor_scale = operand(1u).x;
        let scale = state[0];
        let norm = sqrt(sums[0].x) / scale;
        var factor = 1.0;
        var skipped = sums[0].y > 0.0;
        if largest > 0.0 {
            factor = min(1.0, largest / (norm + 1e-6));
            // A norm beyond f32 has no factor.
            skipped = skipped || !is_finite(norm);
        }
        factor /= scale;
        var good = state[1];
        var next = scale;
        var error = 0.0;
        if skipped {
            good = 0.0;
            if scale * settings.z < floor_scale {
                error = 2.0;
                factor = floor_scale;
            } else {
                next = scale * settings.z;
            }
        } else {
            good += 1.0;
            if good >= settings.w {
                good = 0.0;
                let grown = scale * settings.y;
                next = select(scale, grown, is_finite(grown));
            }
        }
        state[0] = next;
        state[1] = good;
        status[0] = vec4<f32>(norm, factor, f32(skipped), error);
        skip = u32(skipped);
    }
    workgroupBarrier();
    if skip != 0u {
        return;
    }
    let constants = operand(2u);
    for (var number = lane; number < p.parameters; number += 64u) {
        let group = u32(members[number]);
        if group != 0u {
            let count = counts[number] + 1.0;
            counts[number] = count;
            let settled = array<vec4<f32>, 2>(operand(1u + 2u * group), operand(2u + 2u * group));
            let now = corrected(settled, constants, count);
            factors[2u * number] = now[0];
            factors[2u * number + 1u] = now[1];
        }
    }
}
