// Results in rows of a multiple of 4, stored four at a time; columns past the end of a row are left out.

fn store(value: vec4<f32>, line: u32, column: u32) {
    if column < p.columns {
        c[(line + column) / 4u] = epilogue(value, line + column);
    }
}
