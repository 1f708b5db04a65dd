// What `gather/sum.wgsl` and `gather/chunks.wgsl` sum, a float or four, is what lies in memory. `gather/pairs.wgsl` has the same of
// eight.
//
// Asks for: `alias W`.

alias G = W;

fn value_of(x: G) -> W {
    return x;
}

fn packed(x: W) -> G {
    return x;
}
