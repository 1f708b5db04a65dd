//! Embedded digits as image files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln::data::{self, Image};

/// The digits that the network was not trained on as PNG files of mixed sizes, a folder a class, and one that is broken.
pub fn make(folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let digits = data::digits().test.limit(count);
    let mut paths = vec![folder.join("broken.png")];
    for (number, (pixels, class)) in digits.images().chunks(64).zip(digits.labels()).enumerate() {
        let large = Image::new(1, 8, 8, pixels.to_vec())?.resize([20 + number % 41, 20 + number * 7 % 41])?;
        let bytes = large.values.iter().map(|value| (255.0 * value).round() as u8).collect();
        let grey = image::GrayImage::from_raw(large.width as u32, large.height as u32, bytes).context("no image")?;
        let class = folder.join(class.to_string());
        std::fs::create_dir_all(&class)?;
        paths.push(class.join(format!("{number:03}.png")));
        grey.save(&paths[paths.len() - 1])?;
    }
    std::fs::write(&paths[0], "this is no image")?;
    println!("made     {} images in {}", paths.len(), folder.display());
    Ok(paths)
}
