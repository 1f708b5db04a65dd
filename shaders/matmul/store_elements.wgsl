// Results in rows of any length; columns past the end of a row are left out.

fn store(value: vec4<f32>, line: u32, column: u32) {
    for (var j = 0u; j < 4u; j++) {
        if column + j < p.columns {
            c[line + column + j] = epilogue(value[j], line + column + j);
        }
    }
}
