//! Sheets of small pictures, as the bytes of a PNG file.

use anyhow::{Context, Result, ensure};

/// Grey squares of `side` pixels, row by row in `values` from 0 (black) to 1 (white), so many in a row of the sheet; each
/// pixel is drawn as a square of `zoom`.
pub fn sheet(values: &[f32], side: usize, columns: usize, zoom: usize) -> Result<Vec<u8>> {
    let area = side * side;
    ensure!(area > 0 && columns > 0 && zoom > 0, "a sheet of nothing");
    let count = values.len() / area;
    let pitch = (side + 1) * zoom;
    let [width, height] = [columns, count.div_ceil(columns)].map(|pictures| (pictures * pitch + zoom) as u32);
    let mut sheet = image::GrayImage::from_pixel(width, height, image::Luma([96]));
    for (number, picture) in values.chunks_exact(area).enumerate() {
        let (left, top) = (number % columns * pitch + zoom, number / columns * pitch + zoom);
        for y in 0..side * zoom {
            for x in 0..side * zoom {
                let value = picture.get(y / zoom * side + x / zoom).context("a pixel of the picture")?;
                let grey = (255.0 * value.clamp(0.0, 1.0)).round() as u8;
                sheet.put_pixel((left + x) as u32, (top + y) as u32, image::Luma([grey]));
            }
        }
    }
    let mut bytes = std::io::Cursor::new(vec![]);
    sheet.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}
