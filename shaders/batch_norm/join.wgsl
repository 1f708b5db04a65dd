// Joins the parts of each channel's moments in order: first element, biased variance, and mean less the first element.
//
// Bindings: 0 parts [parts, 4, channels] (read: count, mean less the first element, sum of squared differences, first element),
// 1 result [3, channels] (written).
// Workgroups: ceil(channels / 64). Iterations: parts.

struct Params {
    channels: u32,
    parts: u32,
    share: f32,
}

@group(0) @binding(0) var<storage, read> parts: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;

fn work(channel: u32) {
    if channel >= p.channels {
        return;
    }
    var count = 0.0;
    var mean = 0.0;
    var square = 0.0;
    for (var part = 0u; part < p.parts; part++) {
        let at = part * 4u * p.channels + channel;
        let more = parts[at];
        let share = more / max(count + more, 1.0);
        let delta = parts[at + p.channels] - mean;
        mean += delta * share;
        square += parts[at + 2u * p.channels] + delta * delta * (count * share);
        count += more;
    }
    result[channel] = parts[3u * p.channels + channel];
    result[p.channels + channel] = square * p.share;
    result[2u * p.channels + channel] = mean;
}
