//! CIFAR-10 and CIFAR-100 from their binary files: records of one or two labels and 3×32×32 bytes, channel by channel.

use std::path::{Path, PathBuf};

use super::images::{Images, Splits};
use crate::error::{Error, Result};

const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// CIFAR-10 (A. Krizhevsky), 50,000 + 10,000 colour images of 32×32 pixels in 10 classes, from the files of the binary
/// version in `dir/cifar-10-batches-bin` or `dir`: `data_batch_1.bin` to `data_batch_5.bin`, and `test_batch.bin`. Where
/// only some of the five are there, these are the training part, and its name says how many.
///
/// # Errors
/// [`Error::Io`] for a file that is missing or cannot be read, [`Error::File`] for one whose content is not right.
pub fn cifar10(dir: impl AsRef<Path>) -> Result<Splits> {
    let folder = folder(dir.as_ref(), "cifar-10-batches-bin");
    let all: Vec<String> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let there: Vec<String> = all.iter().filter(|name| folder.join(name).exists()).cloned().collect();
    // Without any, the error is that of the first one.
    let train = if there.is_empty() { &all } else { &there };
    let mut splits = splits("cifar10", &folder, train, "test_batch.bin", [1, 10])?;
    if train.len() < all.len() {
        splits.train.name = format!("cifar10, {} of {} files", train.len(), all.len());
    }
    Ok(splits)
}

/// CIFAR-100 (A. Krizhevsky), 50,000 + 10,000 colour images of 32×32 pixels in 100 classes, from `train.bin` and
/// `test.bin` in `dir/cifar-100-binary` or `dir`. The labels are the fine ones.
///
/// # Errors
/// As for [`cifar10`].
pub fn cifar100(dir: impl AsRef<Path>) -> Result<Splits> {
    let folder = folder(dir.as_ref(), "cifar-100-binary");
    splits("cifar100", &folder, &["train.bin".to_string()], "test.bin", [2, 100])
}

fn folder(dir: &Path, own: &str) -> PathBuf {
    let inner = dir.join(own);
    if inner.is_dir() { inner } else { dir.into() }
}

fn splits(name: &str, folder: &Path, train: &[String], test: &str, layout: [usize; 2]) -> Result<Splits> {
    let test = part(format!("{name}-test"), folder, &[test.to_string()], layout)?;
    Ok(Splits { train: part(name.to_string(), folder, train, layout)?, test })
}

/// `labels` bytes of labels in front of each image, the last of which is its class.
fn part(name: String, folder: &Path, files: &[String], [labels, classes]: [usize; 2]) -> Result<Images> {
    let mut set = Images { name, images: vec![], labels: vec![], shape: [3, SIDE, SIDE], classes };
    for file in files {
        let path = folder.join(file);
        let bytes = std::fs::read(&path).map_err(|error| Error::io(&path, "read", error))?;
        let record = labels + PIXELS;
        let refuse = |offset: usize, what| {
            let next = "take the binary version, and download it again";
            Error::File { path: path.clone(), offset: offset as u64, what, next }
        };
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            let what = format!("{} bytes are no whole number of records of {record}", bytes.len());
            return Err(refuse(bytes.len() / record * record, what));
        }
        for (number, bytes) in bytes.chunks_exact(record).enumerate() {
            let label = bytes[labels - 1];
            if usize::from(label) >= classes {
                let what = format!("label {label} of image {number} is not below {classes}");
                return Err(refuse(number * record + labels - 1, what));
            }
            set.labels.push(label.into());
            set.images.extend(bytes[labels..].iter().map(|&pixel| f32::from(pixel) / 255.0));
        }
    }
    Ok(set)
}
