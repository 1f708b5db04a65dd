// What Adan (see `optim/adan.wgsl`) needs of update number `count`. Host numbers: the logarithms of b1, b2 and b3 in two parts each are
// the fourth vector and the last two of the third.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let first = factor(at + 3u);
    let third = factor(at + 2u).zw;
    return Corrected(
        vec4<f32>(
            1.0 / one_minus_power(first.xy, count),
            1.0 / one_minus_power(first.zw, count),
            1.0 / sqrt(one_minus_power(third, count)),
            select(0.0, 1.0, count == 1u),
        ),
        kept,
    );
}
