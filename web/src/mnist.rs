//! MNIST, or what has its form, from the four files that somebody dropped on the page; the page has unpacked them.

use kiln::data::{Images, Splits};

/// What is wrong with a file, and of which name.
type Refusal = String;

/// The sizes in `N` dimensions and the values behind them, of an IDX file of bytes.
fn idx<'a, const N: usize>(name: &str, file: &'a [u8]) -> Result<([usize; N], &'a [u8]), Refusal> {
    let word = |number: usize| -> Option<u32> {
        let bytes = file.get(4 * number..4 * number + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    if word(0) != Some(0x0800 + N as u32) {
        return Err(format!("{name} is no IDX file of bytes in {N} dimensions"));
    }
    let mut sizes = [0; N];
    for (number, size) in sizes.iter_mut().enumerate() {
        *size = word(1 + number).ok_or_else(|| format!("{name} ends in its header"))? as usize;
    }
    let values = file.get(4 + 4 * N..).unwrap_or_default();
    let promised = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if promised != Some(values.len()) || values.is_empty() {
        return Err(format!("{name} has {} values for sizes {sizes:?}", values.len()));
    }
    Ok((sizes, values))
}

fn part(name: &str, images: &[u8], labels: &[u8]) -> Result<Images, Refusal> {
    let ([count, height, width], pixels) = idx(&format!("{name}-images"), images)?;
    let ([own], classes) = idx(&format!("{name}-labels"), labels)?;
    if own != count || height != width || !(4..=64).contains(&height) {
        return Err(format!("{own} labels for {count} images of {height}x{width}; square ones of 4 to 64 are taken"));
    }
    let pixels = pixels.iter().map(|&pixel| f32::from(pixel) / 255.0).collect();
    let classes = classes.iter().map(|&class| u32::from(class)).collect();
    Images::new("MNIST", pixels, classes, [1, height, width], 10).map_err(|error| error.to_string())
}

/// Images and labels to train, then those to test.
pub fn splits([train, labels, test, answers]: [&[u8]; 4]) -> Result<Splits, Refusal> {
    let (train, test) = (part("train", train, labels)?, part("t10k", test, answers)?);
    match train.shape() == test.shape() {
        true => Ok(Splits { train, test }),
        false => Err("the images to train and those to test have other sizes".into()),
    }
}
