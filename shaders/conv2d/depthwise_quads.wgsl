// Results in rows of a multiple of 4, stored as quads; columns past the end of a row are left out.

fn store(line: u32, column: u32, width: u32, values: vec4<f32>) {
    let at = line + column;
    if column < width {
        result[at / 4u] = vec4<OUT>(
            epilogue(values.x, at),
            epilogue(values.y, at + 1u),
            epilogue(values.z, at + 2u),
            epilogue(values.w, at + 3u),
        );
    }
}
