// For software drivers alone: what `optim/walk.wgsl` asks for, where it updates.

fn visit(i: u32, counts: bool, scales: array<vec4<f32>, PARTS>, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let own = part(old, k);
        x[k] = moved(own, adjust(part(gradient, k), own, clip), scales[k], f);
    }
    if counts {
        theta[i] = joined(x);
    }
}

fn visit_any(i: u32, clip: f32, f: Factors) {
    apply(i, clip, f);
}

fn finish(index: u32) {}
