// Writes each element of each channel: an invocation takes values part, part + parts, .. of a channel.
//   result = epilogue(value(place, channel's), place)
// Invocations side by side take values side by side. Workgroups: ceil(parts * channels / 64). Iterations: total / parts + 1.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = (group.x + group.y * groups.x) * 64u + lane;
    if unit >= p.parts * p.channels {
        return;
    }
    var channel = 0u;
    var part = 0u;
    if ALONG {
        channel = unit / p.parts;
        part = unit - channel * p.parts;
    } else {
        part = unit / p.channels;
        channel = unit - part * p.channels;
    }
    let begun = begin(channel);
    var spot = first_spot(part);
    for (var t = part; t < p.total; t += p.step) {
        let at = place(spot, channel);
        result[at] = epilogue(value(at, begun), at * LANES);
        spot = next_spot(spot);
    }
}
