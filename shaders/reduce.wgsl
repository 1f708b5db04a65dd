// Reduction of some axes by a sum, a maximum or a minimum; also the second pass over partial results.
//
// result[o] = finish(combine over r of prologue(kept_index(o) + spot_index(spot r)))
//
// A value V has one element S, or four: four terms of one output, which `store` combines, or a term each of four outputs.
// Numbers of outputs and of terms are in values.
//
// Each output is formed by `parts` invocations, part q taking r = q, q + parts, q + 2 parts, .. (or, on software drivers,
// neighbours: each of its lanes then walks through memory of its own), with four accumulators that are combined in a fixed
// order; with more than one part a second pass combines the partial results in order.
//
// Asks for: `alias V`, `alias S`, `combine`, `initial`, `store` (which finishes and calls epilogue, or writes a partial
// result), `kept_index`, `first_spot`, `next_spot`, `spot_index`, `const PARTIAL: bool` (true: several parts) and
// `const PART_FASTEST: bool` (true: neighbouring invocations are parts of one output).
//
// Operands: input (through prologue), result [outputs] or [parts, outputs] (through store).
// Workgroups: ceil(outputs * parts / 64). Iterations: reduced / (4 parts) + 4.

fn work(i: u32) {
    if i >= p.outputs * p.parts {
        return;
    }
    var o = i;
    var part = 0u;
    if PARTIAL {
        if PART_FASTEST {
            o = i / p.parts;
            part = i - o * p.parts;
        } else {
            part = i / p.outputs;
            o = i - part * p.outputs;
        }
    }
    let base = kept_index(o);
    var r = part * p.first;
    let end = min(r + p.span, p.reduced);
    var spot = first_spot(r);
    let stride = p.step;
    var a = initial();
    var b = initial();
    var c = initial();
    var d = initial();
    if end > 3u * stride {
        let last = end - 3u * stride;
        while r < last {
            a = combine(a, prologue(base + spot_index(spot)));
            spot = next_spot(spot);
            b = combine(b, prologue(base + spot_index(spot)));
            spot = next_spot(spot);
            c = combine(c, prologue(base + spot_index(spot)));
            spot = next_spot(spot);
            d = combine(d, prologue(base + spot_index(spot)));
            spot = next_spot(spot);
            r += 4u * stride;
        }
    }
    while r < end {
        a = combine(a, prologue(base + spot_index(spot)));
        spot = next_spot(spot);
        r += stride;
    }
    store(combine(combine(a, b), combine(c, d)), part, o);
}
