// A mean `old` that moves by c to that of this step.

fn nearer(old: f32, fresh: f32, c: f32) -> f32 {
    return select(old + c * (fresh - old), fresh - (1.0 - c) * (fresh - old), c >= 0.5);
}
