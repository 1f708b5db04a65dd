// For software drivers alone: what `optim/walk.wgsl` asks for, where it measures. partial: what each invocation has summed, from p.first on.

// What the team's invocation has summed so far; where one does the work of many (`gpu/balance.wgsl`) the next begins anew.
var<private> walked: vec2<f32>;

fn visit(i: u32, counts: bool, scales: array<vec4<f32>, PARTS>, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    var sums = vec2<f32>(0.0);
    for (var k = 0u; k < PARTS; k++) {
        let x = part(old, k);
        let u = adjust(part(gradient, k), x, clip) * scales[k];
        sums += vec2<f32>(dot(u, u), dot(x, x));
    }
    walked += select(vec2<f32>(0.0), sums, counts);
}

fn visit_any(i: u32, clip: f32, f: Factors) {
    walked += measure(i, clip, f);
}

fn finish(index: u32) {
    partial[p.first + index] = walked;
    walked = vec2<f32>(0.0);
}
