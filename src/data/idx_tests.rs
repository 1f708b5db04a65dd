//! Every way in which an IDX file can be wrong, each built in a temporary directory.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

/// A temporary directory that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn empty() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("kiln-idx-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// Three images of 1×2 to train on and one to test, all four files right and uncompressed.
    fn good() -> Self {
        let folder = Folder::empty();
        folder.put(TRAIN_IMAGES, &idx(&[3, 1, 2], &[0, 255, 51, 102, 153, 204]));
        folder.put(TRAIN_LABELS, &idx(&[3], &[7, 0, 9]));
        folder.put(TEST_IMAGES, &idx(&[1, 1, 2], &[255, 0]));
        folder.put(TEST_LABELS, &idx(&[1], &[4]));
        folder
    }

    fn put(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Puts `content` in the place of the uncompressed file `stem`, as `stem.gz`.
    fn put_gzip(&self, stem: &str, content: &[u8]) {
        let _ = std::fs::remove_file(self.0.join(stem));
        self.put(&format!("{stem}.gz"), content);
    }

    /// Path, offset and text of the [`Error::File`] that loading must give.
    fn file_error(&self) -> (String, u64, String) {
        match mnist(&self.0) {
            Err(Error::File { path, offset, what, next }) => {
                assert!(!next.is_empty());
                (path.file_name().unwrap().to_str().unwrap().to_string(), offset, what)
            }
            other => panic!("expected Error::File, got {other:?}"),
        }
    }

    /// The [`Error::Io`] that loading must give, as text.
    fn io_error(&self) -> String {
        match mnist(&self.0) {
            Err(error @ Error::Io { .. }) => error.to_string(),
            other => panic!("expected Error::Io, got {other:?}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0800 + sizes.len() as u32).to_be_bytes().to_vec();
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn good_files_give_pixels_from_0_to_1_and_labels_as_they_are() {
    let Splits { train, test } = mnist(&Folder::good().0).unwrap();
    assert_eq!(train.images(), [0.0, 1.0, 0.2, 0.4, 0.6, 0.8]);
    assert_eq!(train.labels(), [7, 0, 9]);
    assert_eq!((train.shape(), train.classes(), train.name()), ([1, 1, 2], 10, "mnist"));
    assert_eq!((test.images(), test.labels()), (&[1.0, 0.0][..], &[4][..]));
}

#[test]
fn compressed_files_give_the_same_as_uncompressed_ones() {
    let folder = Folder::good();
    let plain = mnist(&folder.0).unwrap();
    for stem in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let content = std::fs::read(folder.0.join(stem)).unwrap();
        folder.put_gzip(stem, &gzip(&content));
    }
    assert_eq!(mnist(&folder.0).unwrap(), plain);
}

#[test]
fn a_file_that_was_unpacked_but_kept_its_gz_is_read() {
    let folder = Folder::good();
    folder.put_gzip(TRAIN_LABELS, &idx(&[3], &[7, 0, 9]));
    assert!(mnist(&folder.0).is_ok());
}

#[test]
fn each_data_set_is_found_in_the_subfolder_of_its_name_first() {
    let folder = Folder::good();
    for (stem, content) in [
        (TRAIN_IMAGES, idx(&[1, 1, 1], &[0])),
        (TRAIN_LABELS, idx(&[1], &[1])),
        (TEST_IMAGES, idx(&[1, 1, 1], &[0])),
        (TEST_LABELS, idx(&[1], &[1])),
    ] {
        folder.put(&format!("fashion-mnist/{stem}"), &content);
    }
    assert_eq!(fashion_mnist(&folder.0).unwrap().train.len(), 1);
    assert_eq!(mnist(&folder.0).unwrap().train.len(), 3);
}

#[test]
fn files_of_two_folders_never_mix() {
    let folder = Folder::good();
    folder.put(&format!("mnist/{TRAIN_IMAGES}"), &idx(&[3, 1, 2], &[0; 6]));
    assert!(folder.io_error().contains("train-labels"));
}

#[test]
fn a_missing_file_names_the_places_that_were_searched() {
    let folder = Folder::empty();
    let text = folder.io_error();
    for part in ["train-images-idx3-ubyte.gz", "MNIST", &folder.0.display().to_string()] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_directory_in_the_place_of_a_file_is_an_io_error() {
    let folder = Folder::good();
    std::fs::create_dir(folder.0.join(format!("{TRAIN_LABELS}.gz"))).unwrap();
    assert!(folder.io_error().contains(TRAIN_LABELS));
}

#[test]
fn a_truncated_gzip_file_is_an_error_at_its_last_byte() {
    let folder = Folder::good();
    let whole = gzip(&idx(&[3], &[7, 0, 9]));
    for length in 2..whole.len() {
        folder.put_gzip(TRAIN_LABELS, &whole[..length]);
        let (name, offset, what) = folder.file_error();
        assert_eq!((name.as_str(), offset), ("train-labels-idx1-ubyte.gz", length as u64), "{what}");
        assert!(what.contains("gzip"), "{what}");
    }
}

#[test]
fn a_flipped_bit_fails_the_checksum_of_gzip() {
    let folder = Folder::good();
    let mut content = gzip(&idx(&[3], &[7, 0, 9]));
    let checksum = content.len() - 8;
    content[checksum] ^= 1;
    folder.put_gzip(TRAIN_LABELS, &content);
    assert!(folder.file_error().2.contains("gzip"));
}

#[test]
fn bytes_after_the_gzip_stream_are_an_error() {
    let folder = Folder::good();
    let mut content = gzip(&idx(&[3], &[7, 0, 9]));
    let end = content.len() as u64;
    content.push(0);
    folder.put_gzip(TRAIN_LABELS, &content);
    assert_eq!(folder.file_error().1, end);
}

#[test]
fn a_wrong_magic_number_is_an_error_at_byte_0() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, b"<!DOCTYPE html>");
    let (name, offset, what) = folder.file_error();
    assert_eq!((name.as_str(), offset), (TRAIN_IMAGES, 0));
    assert!(what.contains("0x3c21444f") && what.contains("0x00000803"), "{what}");
}

#[test]
fn labels_in_the_place_of_images_are_an_error() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, &idx(&[3], &[7, 0, 9]));
    assert_eq!(folder.file_error().1, 0);
}

#[test]
fn a_header_that_ends_early_is_an_error_at_its_end() {
    let folder = Folder::good();
    let whole = idx(&[3, 1, 2], &[]);
    for length in 0..whole.len() {
        folder.put(TRAIN_IMAGES, &whole[..length]);
        let (name, offset, what) = folder.file_error();
        assert_eq!((name.as_str(), offset), (TRAIN_IMAGES, length as u64), "{what}");
    }
}

#[test]
fn a_header_with_absurd_sizes_is_an_error_before_anything_is_read() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, &idx(&[u32::MAX; 3], &[0; 6]));
    assert_eq!(folder.file_error().1, 4);
}

#[test]
fn a_header_that_claims_more_than_there_is_allocates_no_more_than_there_is() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, &idx(&[1 << 20, 28, 28], &[0; 6]));
    let (_, mut file) = find(std::slice::from_ref(&folder.0), TRAIN_IMAGES).unwrap();
    file.header::<3>().unwrap();
    assert!(file.read(28 << 20).unwrap().capacity() < 1 << 16);
}

#[test]
fn a_header_of_zeros_is_an_error_at_the_zero() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, &idx(&[3, 0, 2], &[]));
    assert_eq!(folder.file_error().1, 8);
}

#[test]
fn data_that_end_early_are_an_error_where_they_end() {
    let folder = Folder::good();
    folder.put(TRAIN_IMAGES, &idx(&[3, 1, 2], &[0; 5]));
    let (_, offset, what) = folder.file_error();
    assert_eq!(offset, 21);
    assert!(what.contains("5 of 6"), "{what}");
}

#[test]
fn an_offset_in_a_compressed_file_says_how_it_counts() {
    let folder = Folder::good();
    folder.put_gzip(TRAIN_IMAGES, &gzip(&idx(&[3, 1, 2], &[0; 5])));
    assert!(folder.file_error().2.contains("after decompression"));
}

#[test]
fn trailing_bytes_are_an_error_where_they_start() {
    let folder = Folder::good();
    folder.put(TRAIN_LABELS, &idx(&[3], &[7, 0, 9, 1]));
    let (name, offset, _) = folder.file_error();
    assert_eq!((name.as_str(), offset), (TRAIN_LABELS, 11));
}

#[test]
fn a_label_out_of_range_is_an_error_at_its_byte() {
    let folder = Folder::good();
    folder.put(TRAIN_LABELS, &idx(&[3], &[7, 10, 9]));
    let (name, offset, what) = folder.file_error();
    assert_eq!((name.as_str(), offset), (TRAIN_LABELS, 9));
    assert!(what.contains("label 10 of image 1"), "{what}");
}

#[test]
fn another_number_of_labels_than_of_images_is_an_error() {
    let folder = Folder::good();
    folder.put(TRAIN_LABELS, &idx(&[2], &[7, 0]));
    let (name, offset, what) = folder.file_error();
    assert_eq!((name.as_str(), offset), (TRAIN_LABELS, 4));
    assert!(what.contains("2 labels for the 3 images"), "{what}");
}

#[test]
fn test_images_of_another_size_than_the_training_images_are_an_error() {
    let folder = Folder::good();
    folder.put(TEST_IMAGES, &idx(&[1, 2, 2], &[0; 4]));
    let (name, offset, _) = folder.file_error();
    assert_eq!((name.as_str(), offset), (TEST_IMAGES, 8));
}
