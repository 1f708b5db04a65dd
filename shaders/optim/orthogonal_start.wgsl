// What Muon makes orthogonal (see `optim/muon.wgsl`): u / max(|u|, eps), transposed where it has more rows than columns. A workgroup takes
// 1024 elements.
//
// parts     [workgroups, 2]: a matrix, its first element
// matrices  [matrices, 9]: rows and columns once transposed, two places of the matrix, two of squares of its rows, its first gradient, 1 if
//           it is transposed, its number among the parameters

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = 2u * (group.x + group.y * groups.x);
    if number >= arrayLength(&parts) {
        return;
    }
    let matrix = 9u * parts[number];
    let rows = matrices[matrix];
    let columns = matrices[matrix + 1u];
    let norm = max(sqrt(sums[matrices[matrix + 8u]].x), factor(p.word / 4u).z);
    for (var k = 0u; k < 16u; k++) {
        let own = parts[number + 1u] + 64u * k + lane;
        if own < rows * columns {
            let row = own / columns;
            let column = own % columns;
            let source = select(own, column * rows + row, matrices[matrix + 7u] != 0u);
            matrices_now[matrices[matrix + 2u] + own] = gradients[matrices[matrix + 6u] + source] / norm;
        }
    }
}
