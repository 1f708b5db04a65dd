// Connectionist temporal classification, a workgroup a sequence: logarithms of the probabilities of all ways to a state,
//   a[t, s] = x[t, s] + ln(e^a[t-1, s] + e^a[t-1, s-1] + e^a[t-1, s-2] where skips[s]),
// each frame's less their largest, and minus the logarithm of all ways to the last two states.
//
// x        [sequences, p.frames, p.states]  logarithms of the probabilities of the states' labels
// skips    [sequences, p.states]            1 where a way may come from two states before
// lengths  [sequences, 2]                   frames and states of each sequence
// Both results are handed over: the losses, [sequences], and a as x, less each frame's largest; NEVER behind a sequence's end.
//
// Constants: GROUP lanes; STATES, at least p.states. Workgroups: sequences, folded freely over x and y.
// Iterations: p.frames * (ceil(p.states / GROUP) * 2 + 8).

fn work(sequence: u32, lane: u32) {
    let some = sequence < p.sequences;
    var own = vec2<u32>(0u);
    if some {
        own = extent(sequence);
    }
    // Sum of what was taken off, and what its rounding has left out.
    var total = 0.0;
    var rest = 0.0;
    // Of the last two states, where the sequence ends: without frames there is a way to say nothing.
    var last = select(NEVER, 0.0, own.y == 1u);
    for (var t = 0u; t < p.frames; t++) {
        let now = (t & 1u) * STATES;
        let before = STATES - now;
        let first = (sequence * p.frames + t) * p.states;
        var top = NEVER;
        for (var s = lane; s < p.states; s += GROUP) {
            var way = NEVER;
            if some && s < own.y && t < own.x {
                if t == 0u {
                    way = select(NEVER, 0.0, s < 2u);
                } else {
                    var from_one = NEVER;
                    var from_two = NEVER;
                    if s > 0u {
                        from_one = lattice[before + s - 1u];
                    }
                    if s > 1u && skips[sequence * p.states + s] != 0u {
                        from_two = lattice[before + s - 2u];
                    }
                    way = sum_of(lattice[before + s], from_one, from_two);
                }
                way = max(way + x[first + s], NEVER);
            }
            lattice[now + s] = way;
            top = max(top, way);
        }
        top = of_all(vec2<f32>(top, 0.0), lane, false).x;
        for (var s = lane; s < p.states; s += GROUP) {
            let way = lattice[now + s];
            let kept = select(way - top, NEVER, is_never(way));
            lattice[now + s] = kept;
            if some {
                result_1(kept, first + s);
            }
        }
        workgroupBarrier();
        if some && t + 1u == own.x {
            var one_before = NEVER;
            if own.y > 1u {
                one_before = lattice[now + own.y - 2u];
            }
            last = sum_of(lattice[now + own.y - 1u], one_before, NEVER);
        }
        if t < own.x && !is_never(top) {
            let larger = total + top;
            // What was lost of the smaller one.
            rest += select((top - larger) + total, (total - larger) + top, abs(total) >= abs(top));
            total = larger;
        }
    }
    if some && lane == 0u {
        let infinite = bitcast<f32>(0x7f800000u + p.zero);
        result_0(select(-(last + total + rest), infinite, is_never(last)), sequence);
    }
}
