// A copy of the weights, for `optim/average.wgsl`, where its number is one of p.copies from p.start on.
//
// copies  [p.copies, p.vectors]

fn take(i: u32, number: f32) {
    let place = u32(number);
    if place >= p.start && place < p.start + p.copies {
        copies[(place - p.start) * p.vectors + i] = theta[i];
    }
}
