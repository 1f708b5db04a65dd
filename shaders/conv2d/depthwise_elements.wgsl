// Results in rows of any length; columns past the end of a row are left out.

fn store(line: u32, column: u32, width: u32, values: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if column + j < width {
            result[line + column + j] = epilogue(values[j], line + column + j);
        }
    }
}
