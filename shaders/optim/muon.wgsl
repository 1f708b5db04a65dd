// Muon (Jordan et al. 2024), a rule of `optim/update.wgsl` that measures, as torch.optim.Muon has it:
//
//   m <- mu m + (1 - mu) g;  u = mu m + (1 - mu) g with Nesterov's momentum, else m;  O = u made orthogonal (`optim/orthogonal_product.wgsl`)
//   theta <- (1 - lr wd) theta - lr ratio O
//
// Host numbers: (lr, wd, eps, 0), (mu, 1 - mu, 1 with Nesterov's momentum, 0), (a, b, c, 0). Sums: |u|^2, which takes the gradient's place.
//
// matrices_now  where O is, among others
// sites         of each block the word where its parameter's site begins, then the sites: first element, elements, length of a row, 1 if O is
//               transposed, where O begins, its number of columns, bits of the ratio, class, number

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u));
}

fn measure(i: u32, clip: f32, f: Factors) -> vec2<f32> {
    var m: array<vec4<f32>, PARTS>;
    var u: array<vec4<f32>, PARTS>;
    var sum = 0.0;
    for (var k = 0u; k < PARTS; k++) {
        let g = adjust(part(gradients[i], k), part(theta[i], k), clip);
        m[k] = f.shares.x * part(momentum[i], k) + f.shares.y * g;
        u[k] = m[k];
        if f.shares.z > 0.0 {
            u[k] = f.shares.x * m[k] + f.shares.y * g;
        }
        sum += dot(u[k], select(vec4<f32>(0.0), u[k], inside(i, k)));
    }
    momentum[i] = joined(m);
    gradients[i] = joined(u);
    return vec2<f32>(sum, 0.0);
}
