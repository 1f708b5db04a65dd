// The chunks of sorted positions that lie within a run: (first, last), `last` not one of them.

fn inside(run: vec2<u32>) -> vec2<u32> {
    return vec2<u32>((run.x + p.chunk - 1u) >> p.bits, run.y >> p.bits);
}

fn has_chunks(run: vec2<u32>) -> bool {
    let chunks = inside(run);
    return chunks.x < chunks.y;
}
