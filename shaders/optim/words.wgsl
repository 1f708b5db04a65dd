// For software drivers alone: vectors V of parameters and gradients at any word of PARTS floats, for rows seldom begin at whole vectors. Where
// they do, `optim/whole.wgsl` takes fewer loads.
//
// Asks for: V and PARTS (`shared/vectors.wgsl`); theta and gradients, bound as words.

// That at word `at`; the last word before `end` is read for those behind it.
fn theta_of(at: u32, end: u32) -> V {
    let last = end - 1u;
    return V(theta[min(at, last)], theta[min(at + 1u, last)], theta[min(at + 2u, last)], theta[min(at + 3u, last)]);
}

fn gradients_of(at: u32, end: u32) -> V {
    let last = end - 1u;
    return V(
        gradients[min(at, last)],
        gradients[min(at + 1u, last)],
        gradients[min(at + 2u, last)],
        gradients[min(at + 3u, last)],
    );
}
