// Writes each element of each channel: an invocation takes values part, part + parts, .. of a channel.
//   result = epilogue(value(place, channel's), place)
// Invocations side by side take values side by side. Workgroups: ceil(parts * channels / 64). Iterations: total / parts + 1.

fn work(unit: u32) {
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
