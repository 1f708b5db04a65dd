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

// Asks for: `optim/nearer.wgsl`; `const SOME_FLAT`, true if there is a parameter that is no matrix; `const WHOLE`, true if a vector is never of
// two rows; then `columns_at(at)`, the vector of columns at element `at`, else `column_at(at)`, a column.

struct Factors {
    rates: vec4<f32>,
    more: vec4<f32>,
    corrected: vec4<f32>,
    // What u is scaled by.
    step: f32,
}

// Those of the parameter whose site is at hand.
fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    let more = factor(at + 1u);
    let rms = sqrt(sums / f32(own_site.elements));
    return Factors(rates, more, corrected, corrected.y * max(rates.w, rms.y) / max(1.0, rms.x / more.x));
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

// The site of a block, and of a parameter that is one matrix the mean of its rows.
struct Site {
    first: u32,
    elements: u32,
    length: u32,
    size: u32,
    rows: u32,
    columns: u32,
    means: u32,
    mean: f32,
}

// That of the block at hand: loaded once for all of its vectors.
var<private> own_site: Site;

// The class of the parameter whose site begins at this word, and which is then at hand; 0 if it is none.
fn take_site(at: u32) -> u32 {
    if at == 0u {
        return 0u;
    }
    own_site = Site(sites[at], sites[at + 1u], sites[at + 2u], sites[at + 3u], sites[at + 4u], sites[at + 5u], sites[at + 6u], 1.0);
    if own_site.length != 0u {
        own_site.mean = row_means[own_site.means];
    }
    return sites[at + 7u];
}

// A matrix of the parameter, and the mean of its rows.
struct Matrix {
    number: u32,
    mean: f32,
}

// That which row `line` of the parameter is in; a parameter that is one matrix has nothing to divide.
fn matrix_of(line: u32) -> Matrix {
    if own_site.size == own_site.elements {
        return Matrix(0u, own_site.mean);
    }
    let number = divided(line * own_site.length, own_site.size).x;
    return Matrix(number, row_means[own_site.means + number]);
}

// s at the element with number `own` of the parameter; 1 behind its end.
fn estimate(own: u32, f: Factors) -> f32 {
    if own >= own_site.elements {
        return 1.0;
    }
    if own_site.length == 0u {
        return row[own_site.rows + own];
    }
    let at = divided(own, own_site.length);
    let matrix = matrix_of(at.x);
    let mean = max(matrix.mean, f.rates.z);
    return row[own_site.rows + at.x] * column_at(own_site.columns + matrix.number * own_site.length + at.y) / mean;
}

// What the elements of a vector share where it is never of two rows: that row over the mean, and its columns. Loaded once for all parts.
struct Line {
    row: f32,
    columns: V,
}

// That of vector i.
fn line_of(i: u32, f: Factors) -> Line {
    let own = element(i, 0u, 0u) - own_site.first;
    if !WHOLE || own >= own_site.elements || (SOME_FLAT && own_site.length == 0u) {
        return Line(0.0, V());
    }
    let at = divided(own, own_site.length);
    let matrix = matrix_of(at.x);
    let row_at = row[own_site.rows + at.x] / max(matrix.mean, f.rates.z);
    return Line(row_at, columns_at(own_site.columns + matrix.number * own_site.length + at.y));
}

// 1 / sqrt(s) of part k of vector i, whose line this is; 1 behind the end.
fn scales(i: u32, k: u32, line: Line, f: Factors) -> vec4<f32> {
    let own = element(i, 0u, 0u) - own_site.first;
    var s = vec4<f32>(1.0);
    if own >= own_site.elements {
        return s;
    }
    if WHOLE && !(SOME_FLAT && own_site.length == 0u) {
        s = part(line.columns, k) * line.row;
    } else {
        for (var l = 0u; l < 4u; l++) {
            s[l] = estimate(element(i, k, l) - own_site.first, f);
        }
    }
    return 1.0 / sqrt(max(s, vec4<f32>(f.rates.z * f.rates.z)));
}

fn measure(i: u32, clip: f32, f: Factors) -> vec2<f32> {
    var sums = vec2<f32>(0.0);
    let old = theta[i];
    let gradient = gradients[i];
    let line = line_of(i, f);
    for (var k = 0u; k < PARTS; k++) {
        let x = part(old, k);
        let g = adjust(part(gradient, k), x, clip);
        if SOME_FLAT && own_site.length == 0u {
            for (var l = 0u; l < 4u; l++) {
                let own = element(i, k, l) - own_site.first;
                if own < own_site.elements {
                    let at = own_site.rows + own;
                    row[at] = nearer(row[at], g[l] * g[l], f.corrected.x);
                }
            }
        }
        let own = select(vec4<f32>(0.0), vec4<f32>(1.0), inside(i, k));
        let u = g * scales(i, k, line, f) * own;
        sums += vec2<f32>(dot(u, u), dot(x, x * own));
    }
    return sums;
}

// Part k of theta after its update, where u is g times `scale`.
fn moved(x: vec4<f32>, g: vec4<f32>, scale: vec4<f32>, f: Factors) -> vec4<f32> {
    return x * (1.0 - f.rates.x * f.rates.y) - f.step * (g * scale);
}

fn apply(i: u32, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    let line = line_of(i, f);
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let own = part(old, k);
        x[k] = moved(own, adjust(part(gradient, k), own, clip), scales(i, k, line, f), f);
    }
    theta[i] = joined(x);
}
