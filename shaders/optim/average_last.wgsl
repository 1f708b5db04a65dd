// For `optim/average_form.wgsl`: the mean of the copies, added in the order of their places. Several arenas of copies are added
// one after the other; this one has p.copies of them, from number p.start on, of p.all.
//
// copies  [p.copies, p.vectors]
//
// Iterations: p.copies.

fn form(i: u32, count: u32) {
    let weights = min(count, p.all);
    var x: array<vec4<f32>, PARTS>;
    if p.start > 0u {
        let before = average[i];
        for (var k = 0u; k < PARTS; k++) {
            x[k] = part(before, k);
        }
    }
    let here = clamp(weights, p.start, p.start + p.copies) - p.start;
    for (var place = 0u; place < here; place++) {
        let copy = copies[place * p.vectors + i];
        for (var k = 0u; k < PARTS; k++) {
            x[k] += part(copy, k);
        }
    }
    if p.start + p.copies == p.all {
        for (var k = 0u; k < PARTS; k++) {
            x[k] /= f32(weights);
        }
    }
    average[i] = joined(x);
}
