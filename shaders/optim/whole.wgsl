// For software drivers alone: `optim/words.wgsl` where rows begin and end at whole vectors.

fn theta_of(at: u32, end: u32) -> V {
    return theta[min(at, end - 4u) / 4u];
}

fn gradients_of(at: u32, end: u32) -> V {
    return gradients[min(at, end - 4u) / 4u];
}
