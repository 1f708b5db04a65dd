// Joins the parts of each channel's moments in order: first element, biased variance, and mean less the first element.
//
// Operands: parts [parts, 4, channels] (count, mean less the first element, sum of squared differences, first element),
// result [3, channels].
// Workgroups: ceil(channels / 64). Iterations: parts.

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
