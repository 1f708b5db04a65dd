//! MNIST and Fashion-MNIST from their original IDX files, compressed or not.
//!
//! An IDX file is a magic number (`0x0000_08dd`: unsigned bytes in dd dimensions), one big-endian `u32` for each
//! dimension, and the values. Nothing is believed before it is read: the header only says when to stop, and memory
//! grows with the bytes that are really there, in the form that they are kept in.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;

use super::images::{Images, Splits};
use crate::error::{Error, Result};

const CLASSES: usize = 10;
/// Most values that a file may hold: 1 GiB, more than any data set in this format has.
const MOST: u64 = 1 << 30;
/// A gzip file of a megabyte can hold a gigabyte of zeros, which images are not: beyond so many values, more than MNIST
/// has, a file must have a byte for each [`DENSITY`] of them. Scanned digits have one for five.
const UNSUSPECTED: u64 = 1 << 26;
const DENSITY: u64 = 256;
/// Values that are read at a time.
const PIECE: u64 = 1 << 16;
const AGAIN: &str = "download the file again";

/// MNIST, 60,000 + 10,000 handwritten digits of 28×28 pixels, from the original files in `dir`.
///
/// They are `train-images-idx3-ubyte.gz`, `train-labels-idx1-ubyte.gz`, `t10k-images-idx3-ubyte.gz` and
/// `t10k-labels-idx1-ubyte.gz`, or the same without `.gz`. They are looked for in `dir/mnist`, `dir/MNIST/raw` and
/// `dir`. [`directory`](super::directory) gives the `dir` that the user chose.
///
/// # Errors
/// [`Error::Io`] for a file that is missing or cannot be read, [`Error::File`] for one whose content is not right.
pub fn mnist(dir: impl AsRef<Path>) -> Result<Splits> {
    splits("mnist", dir.as_ref(), ["mnist", "MNIST/raw"])
}

/// Fashion-MNIST, 60,000 + 10,000 pictures of clothes of 28×28 pixels, from the original files in `dir`.
///
/// They have the names of those of [`mnist`] and are looked for in `dir/fashion-mnist`, `dir/FashionMNIST/raw` and
/// `dir`.
///
/// # Errors
/// As for [`mnist`].
pub fn fashion_mnist(dir: impl AsRef<Path>) -> Result<Splits> {
    splits("fashion-mnist", dir.as_ref(), ["fashion-mnist", "FashionMNIST/raw"])
}

fn splits(name: &str, dir: &Path, folders: [&str; 2]) -> Result<Splits> {
    let [first, second] = folders.map(|folder| dir.join(folder));
    let folders = [first, second, dir.to_path_buf()];
    // The folder of the first file is that of all: parts of two data sets must not mix.
    let (folder, _) = find(&folders, "train-images-idx3-ubyte")?;
    let train = part(name, &folder, "train")?;
    let test = part(&format!("{name}-test"), &folder, "t10k")?;
    if train.shape() != test.shape() {
        return Err(Error::File {
            path: folder.join("t10k-images-idx3-ubyte"),
            offset: 8,
            what: format!("images of {:?} to test, of {:?} to train", &test.shape()[1..], &train.shape()[1..]),
            next: "take all four files from one data set",
        });
    }
    Ok(Splits { train, test })
}

fn part(name: &str, folder: &Path, stem: &str) -> Result<Images> {
    let folder = [folder.to_path_buf()];
    let (_, mut images) = find(&folder, &format!("{stem}-images-idx3-ubyte"))?;
    let (_, mut labels) = find(&folder, &format!("{stem}-labels-idx1-ubyte"))?;

    let [count, height, width] = images.header()?;
    let [label_count] = labels.header()?;
    if label_count != count {
        let what = format!("{label_count} labels for the {count} images of {}", images.path.display());
        return Err(labels.wrong(4, what, "take both files from one data set"));
    }
    // The small file first: what is wrong with it need not wait for the large one.
    let classes = labels.values(&[count], u32::from)?;
    if let Some(index) = classes.iter().position(|&label| label as usize >= CLASSES) {
        let what = format!("label {} of image {index} is not below {CLASSES}", classes[index]);
        return Err(labels.wrong(8 + index as u64, what, AGAIN));
    }
    let pixels = images.values(&[count, height, width], |pixel| f32::from(pixel) / 255.0)?;
    Ok(Images {
        name: name.into(),
        images: pixels,
        labels: classes,
        shape: [1, height as usize, width as usize],
        classes: CLASSES,
    })
}

/// Opens `stem` or `stem.gz` in the first of the `folders` that has it, which comes back too.
fn find(folders: &[PathBuf], stem: &str) -> Result<(PathBuf, Idx)> {
    for folder in folders {
        for name in [format!("{stem}.gz"), stem.to_string()] {
            let path = folder.join(name);
            match File::open(&path) {
                Ok(file) => return Ok((folder.clone(), Idx::new(path, file)?)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Error::io(path, "read", error)),
            }
        }
    }
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    let message = format!("neither it nor {stem}.gz is in {}", looked.join(", "));
    let path = folders.last().map_or_else(PathBuf::new, |folder| folder.join(stem));
    Err(Error::io(path, "read", std::io::Error::new(ErrorKind::NotFound, message)))
}

/// An IDX file that is being read.
struct Idx {
    path: PathBuf,
    input: Input,
    /// Bytes read so far, after decompression.
    offset: u64,
    /// Bytes of the file, if it is one.
    length: Option<u64>,
}

enum Input {
    Plain(BufReader<File>),
    Gzip(Box<GzDecoder<BufReader<File>>>),
}

impl Idx {
    /// The content, not the name, says whether the file is compressed: browsers like to unpack what they download.
    fn new(path: PathBuf, file: File) -> Result<Self> {
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        let mut file = BufReader::new(file);
        let start = file.fill_buf().map_err(|error| Error::io(&path, "read", error))?;
        let gzip = start.starts_with(&[0x1f, 0x8b]);
        let input = if gzip { Input::Gzip(Box::new(GzDecoder::new(file))) } else { Input::Plain(file) };
        Ok(Idx { path, input, offset: 0, length })
    }

    /// The sizes in `N` dimensions, after the magic number that promises so many.
    fn header<const N: usize>(&mut self) -> Result<[u32; N]> {
        let wanted = 4 + 4 * N;
        let bytes = self.read(wanted as u64)?;
        let words: Vec<u32> =
            bytes.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
        let magic = 0x0800 + N as u32;
        if let Some(&found) = words.first().filter(|&&found| found != magic) {
            let what = format!("the magic number is {found:#010x}, not {magic:#010x}");
            return Err(self.wrong(0, what, "check that this is the IDX file of its name, or download it again"));
        }
        let sizes = words.get(1..).and_then(|sizes| <[u32; N]>::try_from(sizes).ok());
        sizes.ok_or_else(|| self.wrong(self.offset, format!("the header ends here, of {wanted} bytes"), AGAIN))
    }

    /// The values that a header of these sizes promises, each converted as it comes, and then the end of the file.
    fn values<T>(&mut self, sizes: &[u32], convert: impl Fn(u8) -> T) -> Result<Vec<T>> {
        if let Some(dimension) = sizes.iter().position(|&size| size == 0) {
            return Err(self.wrong(4 + 4 * dimension as u64, format!("the sizes {sizes:?} have a zero"), AGAIN));
        }
        let promised = sizes.iter().fold(1u64, |product, &size| product.saturating_mul(size.into()));
        if promised > MOST {
            return Err(self.wrong(4, format!("the header claims {sizes:?} values, more than {MOST}"), AGAIN));
        }
        if let (Input::Gzip(_), Some(length)) = (&self.input, self.length)
            && promised > UNSUSPECTED
            && promised / DENSITY > length
        {
            let what = format!("the header claims {sizes:?} values, too many for a file of {length} bytes");
            return Err(self.wrong(4, what, AGAIN));
        }
        let mut values: Vec<T> = vec![];
        while (values.len() as u64) < promised {
            let left = promised - values.len() as u64;
            let piece = self.read(left.min(PIECE))?;
            if piece.is_empty() {
                let what = format!("the data end after {} of {promised} values", values.len());
                return Err(self.wrong(self.offset, what, AGAIN));
            }
            if values.capacity() - values.len() < piece.len() {
                // Twice as much, but never more than the header says.
                values.reserve_exact(left.min(piece.len().max(values.len()) as u64) as usize);
            }
            values.extend(piece.into_iter().map(&convert));
        }
        if !self.read(1)?.is_empty() {
            let what = format!("bytes follow the {promised} values that the header claims");
            return Err(self.wrong(self.offset - 1, what, AGAIN));
        }
        self.check_nothing_follows_the_gzip_stream()?;
        Ok(values)
    }

    /// At most `length` bytes; fewer only where the file ends.
    fn read(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = match &mut self.input {
            Input::Plain(file) => file.take(length).read_to_end(&mut bytes),
            Input::Gzip(stream) => stream.take(length).read_to_end(&mut bytes),
        };
        self.offset += bytes.len() as u64;
        match read {
            Ok(_) => Ok(bytes),
            Err(error) if error.raw_os_error().is_some() => Err(Error::io(&self.path, "read", error)),
            Err(error) => Err(self.broken_gzip(&error.to_string())),
        }
    }

    fn check_nothing_follows_the_gzip_stream(&mut self) -> Result<()> {
        let Input::Gzip(stream) = &mut self.input else { return Ok(()) };
        match stream.get_mut().fill_buf() {
            Ok([]) => Ok(()),
            Ok(_) => Err(self.broken_gzip("bytes follow its end")),
            Err(error) => Err(Error::io(&self.path, "read", error)),
        }
    }

    /// An error at the place in the compressed file that has been reached.
    fn broken_gzip(&mut self, why: &str) -> Error {
        let offset = match &mut self.input {
            Input::Plain(_) => self.offset,
            Input::Gzip(stream) => stream.get_mut().stream_position().unwrap_or(0),
        };
        Error::File { path: self.path.clone(), offset, what: format!("the gzip stream is broken: {why}"), next: AGAIN }
    }

    /// An error at `offset`, which counts decompressed bytes.
    fn wrong(&self, offset: u64, what: String, next: &'static str) -> Error {
        let unit = if matches!(self.input, Input::Gzip(_)) { " (counted after decompression)" } else { "" };
        Error::File { path: self.path.clone(), offset, what: what + unit, next }
    }
}

#[cfg(test)]
#[path = "idx_tests.rs"]
mod tests;
