// What RAdam (see `optim/radam.wgsl`) needs of update number `count`. Host numbers: the third vector has the logarithms of b1 and
// b2, in two parts each, the fourth (1 - b2, 2 / (1 - b2) - 1, 0, 0).
//
// The length of the average, rho = 2 / d - 1 - 2 t (1 - e) / e with d = 1 - b2 and e = 1 - b2^t, is a difference of large numbers: it is
// formed as 2 t - 1 - 2 (t d - e) / (d e), whose last quotient has a series where t d is small.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let logs = factor(at + 2u);
    let d = factor(at + 3u).x;
    let longest = factor(at + 3u).y;
    let t = f32(count);
    let e = one_minus_power(logs.zw, count);
    var quotient = (t * d - e) / (d * e);
    if t * d < 0.5 {
        var series = 1.0;
        for (var k = 18.0; k > 2.5; k -= 1.0) {
            series = 1.0 - (t - (k - 1.0)) * d / k * series;
        }
        quotient = 0.5 * t * (t - 1.0) * d * series / e;
    }
    let rho = 2.0 * t - 1.0 - 2.0 * quotient;
    var rectified = 0.0;
    if rho > 5.0 {
        let above = (rho - 4.0) * (rho - 2.0) * longest;
        rectified = sqrt(above / ((longest - 4.0) * (longest - 2.0) * rho)) * sqrt(e);
    }
    return Corrected(vec4<f32>(1.0 / one_minus_power(logs.xy, count), rectified, 0.0, 0.0), kept);
}
