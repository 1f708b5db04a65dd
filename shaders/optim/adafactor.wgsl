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

// Asks for: `const SOME_FLAT`, true if there is a parameter that is no matrix; `const WHOLE`, true if a vector is never of two rows; then `column_part(at, k)`, part k of the vector of columns at element
// `at`, else `column_at(at)`, a column.

struct Factors {
    rates: vec4<f32>,
    more: vec4<f32>,
    corrected: vec4<f32>,
    sums: vec2<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), corrected, sums);
}

// (a / b, a % b) of what is below 2^31, b not 0. Software drivers divide integers one lane at a time, floats all at once: a quotient of
// floats is off by its rounding, what is left tells by how much, and a second one is off by 1 at most.
fn divided(a: u32, b: u32) -> vec2<u32> {
    let length = i32(b);
    let inverse = 1.0 / f32(length);
    var quotient = i32(f32(i32(a)) * inverse);
    quotient += i32(floor(f32(i32(a) - quotient * length) * inverse));
    let rest = i32(a) - quotient * length;
    quotient += select(0, 1, rest >= length) - select(0, 1, rest < 0);
    return vec2<u32>(u32(quotient), a - u32(quotient) * b);
}

// The matrix that row `line` of the parameter at `site` is in; a parameter that is one matrix has nothing to divide.
fn matrix_of(site: u32, line: u32, length: u32) -> u32 {
    let size = sites[site + 3u];
    if size == sites[site + 1u] {
        return 0u;
    }
    return divided(line * length, size).x;
}

// s at the element with number `own` of the parameter at `site`; 1 behind its end.
fn estimate(site: u32, own: u32, length: u32, f: Factors) -> f32 {
    if own >= sites[site + 1u] {
        return 1.0;
    }
    if length == 0u {
        return row[sites[site + 4u] + own];
    }
    let at = divided(own, length);
    let matrix = matrix_of(site, at.x, length);
    let mean = max(row_means[sites[site + 6u] + matrix], f.rates.z);
    return row[sites[site + 4u] + at.x] * column_at(sites[site + 5u] + matrix * length + at.y) / mean;
}

// 1 / sqrt(s) of part k of vector i, whose first element has number `own` in the parameter at `site`.
fn scales(i: u32, k: u32, site: u32, f: Factors) -> vec4<f32> {
    let own = element(i, 0u, 0u) - sites[site];
    let length = sites[site + 2u];
    var s = vec4<f32>(1.0);
    if own >= sites[site + 1u] {
        return s;
    }
    if WHOLE && !(SOME_FLAT && length == 0u) {
        // All of the vector is in one row.
        let at = divided(own, length);
        let matrix = matrix_of(site, at.x, length);
        let mean = max(row_means[sites[site + 6u] + matrix], f.rates.z);
        s = column_part(sites[site + 5u] + matrix * length + at.y, k) * (row[sites[site + 4u] + at.x] / mean);
    } else {
        for (var l = 0u; l < 4u; l++) {
            s[l] = estimate(site, element(i, k, l) - sites[site], length, f);
        }
    }
    return 1.0 / sqrt(max(s, vec4<f32>(f.rates.z * f.rates.z)));
}

fn measure(i: u32, clip: f32, f: Factors) -> vec2<f32> {
    let site = sites[i / (16u / PARTS)];
    var sums = vec2<f32>(0.0);
    for (var k = 0u; k < PARTS; k++) {
        let x = part(theta[i], k);
        let g = adjust(part(gradients[i], k), x, clip);
        if SOME_FLAT && sites[site + 2u] == 0u {
            for (var l = 0u; l < 4u; l++) {
                let own = element(i, k, l) - sites[site];
                if own < sites[site + 1u] {
                    let at = sites[site + 4u] + own;
                    let old = row[at];
                    let square = g[l] * g[l];
                    let c = f.corrected.x;
                    row[at] = select(old + c * (square - old), square - (1.0 - c) * (square - old), c >= 0.5);
                }
            }
        }
        let own = select(vec4<f32>(0.0), vec4<f32>(1.0), inside(i, k));
        let u = g * scales(i, k, site, f) * own;
        sums += vec2<f32>(dot(u, u), dot(x, x * own));
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
        let u = adjust(part(gradients[i], k), old, clip) * scales(i, k, site, f);
        x[k] = old * (1.0 - f.rates.x * f.rates.y) - scale * u;
    }
    theta[i] = joined(x);
}
