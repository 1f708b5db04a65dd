// Adafactor (Shazeer and Stern 2018), a rule of `optim/update.wgsl` that measures, as torch.optim.Adafactor has it:
//
//   s = row column / max(mean of the rows, eps1) of a matrix (`optim/factors_means.wgsl`), else s <- s + c (g^2 - s);  c = t^decay
//   u = g / sqrt(max(s, eps1^2));  rho = min(lr, 1 / sqrt(t))
//   theta <- (1 - lr wd) theta - rho max(eps2, rms(theta)) / max(1, rms(u) / d) u
//
// Host numbers: (lr, wd, eps1, eps2), (d, decay, 0, 0). The correction: c, rho. Sums: |u|^2, |theta|^2.
//
// row, column  factors of s; the rows of a parameter that is no matrix are its s;  row_means  the mean of the rows of each matrix
// sites        of each block the word where its parameter's site begins, then the sites: first element, elements, length of a row (0: no
//              matrix), elements of a matrix, where its rows, columns and means begin, its class, its number

struct Factors {
    rates: vec4<f32>,
    more: vec4<f32>,
    corrected: vec4<f32>,
    sums: vec2<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), corrected, sums);
}

// s at the element with number `own` of the parameter at `site`.
fn estimate(site: u32, own: u32, f: Factors) -> f32 {
    let length = sites[site + 2u];
    if length == 0u {
        return row[sites[site + 4u] + own];
    }
    let matrix = own / sites[site + 3u];
    let mean = max(row_means[sites[site + 6u] + matrix], f.rates.z);
    return row[sites[site + 4u] + own / length] * column[sites[site + 5u] + matrix * length + own % length] / mean;
}

fn direction(g: f32, site: u32, own: u32, f: Factors) -> f32 {
    return g / sqrt(max(estimate(site, own, f), f.rates.z * f.rates.z));
}

fn measure(i: u32, clip: f32, f: Factors) -> vec2<f32> {
    let site = sites[i / (16u / PARTS)];
    var sums = vec2<f32>(0.0);
    for (var k = 0u; k < PARTS; k++) {
        let x = part(theta[i], k);
        let g = adjust(part(gradients[i], k), x, clip);
        for (var l = 0u; l < 4u; l++) {
            let own = element(i, k, l) - sites[site];
            if own < sites[site + 1u] {
                if sites[site + 2u] == 0u {
                    let at = sites[site + 4u] + own;
                    let old = row[at];
                    let square = g[l] * g[l];
                    let c = f.corrected.x;
                    row[at] = select(old + c * (square - old), square - (1.0 - c) * (square - old), c >= 0.5);
                }
                let u = direction(g[l], site, own, f);
                sums += vec2<f32>(u * u, x[l] * x[l]);
            }
        }
    }
    return sums;
}

fn apply(i: u32, clip: f32, f: Factors) {
    let site = sites[i / (16u / PARTS)];
    let count = f32(sites[site + 1u]);
    let scale = f.corrected.y * max(f.rates.w, sqrt(f.sums.y / count)) / max(1.0, sqrt(f.sums.x / count) / f.more.x);
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let old = part(theta[i], k);
        let g = adjust(part(gradients[i], k), old, clip);
        var u = vec4<f32>(0.0);
        for (var l = 0u; l < 4u; l++) {
            let own = element(i, k, l) - sites[site];
            if own < sites[site + 1u] {
                u[l] = direction(g[l], site, own, f);
            }
        }
        x[k] = old * (1.0 - f.rates.x * f.rates.y) - scale * u;
    }
    theta[i] = joined(x);
}
