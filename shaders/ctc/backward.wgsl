// Gradient of `ctc/forward.wgsl`: minus the share of all ways that go through a state, a workgroup a sequence.
//   b[t, s] = ln(e^(b + x)[t+1, s] + e^(b + x)[t+1, s+1] + e^(b + x)[t+1, s+2] where skips[s+2])
//   dx[t, s] = -dy e^(a + b)[t, s] / sum over s of e^(a + b)[t, s]
// The shares of a frame are divided by their own sum, so that what was taken off cancels out.
//
// dy  [sequences];  x, skips, lengths, ways  as there;  dx  as x, 0 behind a sequence's end and where there is no way
//
// Constants, workgroups as there. Iterations: p.frames * (ceil(p.states / GROUP) * 3 + 16).

fn work(sequence: u32, lane: u32) {
    let some = sequence < p.sequences;
    var own = vec2<u32>(0u);
    var slope = 0.0;
    if some {
        own = extent(sequence);
        slope = -dy[sequence];
    }
    for (var k = 0u; k < p.frames; k++) {
        let t = p.frames - 1u - k;
        let now = (k & 1u) * STATES;
        let next = STATES - now;
        let first = (sequence * p.frames + t) * p.states;
        // The largest b, and the largest a + b.
        var tops = vec2<f32>(NEVER);
        for (var s = lane; s < p.states; s += GROUP) {
            var way = NEVER;
            if some && s < own.y && t < own.x {
                if t + 1u == own.x {
                    way = select(NEVER, 0.0, s + 2u >= own.y);
                } else {
                    var to_one = NEVER;
                    var to_two = NEVER;
                    if s + 1u < own.y {
                        to_one = lattice[next + s + 1u];
                    }
                    if s + 2u < own.y && skips[sequence * p.states + s + 2u] != 0u {
                        to_two = lattice[next + s + 2u];
                    }
                    way = sum_of(lattice[next + s], to_one, to_two);
                }
                tops = max(tops, vec2<f32>(way, max(way + ways[first + s], NEVER)));
            }
            lattice[now + s] = way;
        }
        tops = of_all(tops, lane, false);
        var sum = 0.0;
        for (var s = lane; s < p.states; s += GROUP) {
            if some && s < own.y && t < own.x && !is_never(tops.y) {
                sum += exp_down(min(lattice[now + s] + ways[first + s] - tops.y, 0.0));
            }
        }
        sum = of_all(vec2<f32>(sum, 0.0), lane, true).x;
        for (var s = lane; s < p.states; s += GROUP) {
            let way = lattice[now + s];
            var share = 0.0;
            if some && s < own.y && t < own.x {
                if !is_never(tops.y) {
                    share = exp_down(min(way + ways[first + s] - tops.y, 0.0)) / sum;
                }
                lattice[now + s] = max(select(way - tops.x, NEVER, is_never(way)) + x[first + s], NEVER);
            }
            if some {
                dx[first + s] = epilogue(slope * share, first + s);
            }
        }
        workgroupBarrier();
    }
}
