// Sets all elements to 0.
// binding 0  result  p.elements floats
// One invocation four elements.

fn work(index: u32) {
    for (var k = 0u; k < 4u; k++) {
        let at = 4u * index + k;
        if at < p.elements {
            result[at] = 0.0;
        }
    }
}
