// Zeros in every element of the result. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i < p.elements {
        result[i] = 0.0;
    }
}
