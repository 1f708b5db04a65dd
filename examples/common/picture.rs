//! Sheets of small pictures, as the bytes of a PNG file.

use anyhow::{Context, Result, ensure};
use kiln::train::records::Picture;

/// Grey squares of `side` pixels, row by row in `values` from 0 (black) to 1 (white), so many in a row of the sheet; each
/// pixel is drawn as a square of `zoom`.
pub fn sheet(values: &[f32], side: usize, columns: usize, zoom: usize) -> Result<Vec<u8>> {
    let area = side * side;
    ensure!(area > 0 && columns > 0 && zoom > 0, "a sheet of nothing");
    let count = values.len() / area;
    let pitch = (side + 1) * zoom;
    let [width, height] = [columns, count.div_ceil(columns)].map(|pictures| pictures * pitch + zoom);
    let mut sheet = vec![96.0 / 255.0; width * height];
    for (number, picture) in values.chunks_exact(area).enumerate() {
        let (left, top) = (number % columns * pitch + zoom, number / columns * pitch + zoom);
        for y in 0..side * zoom {
            for x in 0..side * zoom {
                let value = picture.get(y / zoom * side + x / zoom).context("a pixel of the picture")?;
                sheet[(top + y) * width + left + x] = *value;
            }
        }
    }
    Ok(Picture::new(&sheet, [1, height, width], 0.0, 1.0)?.png())
}
