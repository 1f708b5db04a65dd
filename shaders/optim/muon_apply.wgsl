// The step of `optim/muon.wgsl`, once O is there.

fn apply(i: u32, clip: f32, f: Factors) {
    let site = sites[i / (16u / PARTS)];
    let ratio = bitcast<f32>(sites[site + 6u]);
    let length = sites[site + 2u];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        var o = vec4<f32>(0.0);
        for (var l = 0u; l < 4u; l++) {
            let own = element(i, k, l) - sites[site];
            if own < sites[site + 1u] {
                let row = own / length;
                let column = own % length;
                let at = select(row * length + column, column * sites[site + 5u] + row, sites[site + 3u] != 0u);
                o[l] = matrices_now[sites[site + 4u] + at];
            }
        }
        let old = part(theta[i], k);
        x[k] = old * (1.0 - f.rates.x * f.rates.y) - f.rates.x * ratio * o;
    }
    theta[i] = joined(x);
}
