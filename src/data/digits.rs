//! The embedded data set: the UCI optical handwritten digits, 8×8 pixels.
//!
//! `digits.bin.gz` is gzip over records of 65 bytes, the label and 64 pixels in 0..=16, training part first.
//! `DIGITS.md` says where it comes from, under which licence, and what was changed.

use std::io::Read;

use super::images::{Images, Splits};

const PACKED: &[u8] = include_bytes!("digits.bin.gz");
const TRAIN: usize = 1437;
const TEST: usize = 360;
const SIDE: usize = 8;
const RECORD: usize = 1 + SIDE * SIDE;
const CLASSES: usize = 10;
/// Each pixel counts the set dots of a 4×4 block of the original bitmap.
const WHITE: f32 = 16.0;

/// 1,797 handwritten digits of 8×8 pixels in 10 classes: 1,437 to train on, 360 to test.
///
/// Embedded in the library, so that examples and tests need no download. The split is fixed and stratified by class.
///
/// Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
/// 1998, <https://doi.org/10.24432/C50P49>, licence CC BY 4.0; split and packed anew.
pub fn digits() -> Splits {
    let mut records = Vec::with_capacity((TRAIN + TEST) * RECORD);
    // The bytes are part of the library, and a test reads them: no user, file or driver can make this fail.
    flate2::read::GzDecoder::new(PACKED).read_to_end(&mut records).expect("the embedded digits decompress");
    let (train, test) = records.split_at(TRAIN * RECORD);
    Splits { train: part("digits", train), test: part("digits-test", test) }
}

fn part(name: &str, records: &[u8]) -> Images {
    let records = records.chunks_exact(RECORD);
    Images {
        name: name.into(),
        images: records.clone().flat_map(|record| &record[1..]).map(|&pixel| f32::from(pixel) / WHITE).collect(),
        labels: records.map(|record| u32::from(record[0])).collect(),
        shape: [1, SIDE, SIDE],
        classes: CLASSES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digits_are_1437_images_to_train_on_and_360_to_test() {
        let Splits { train, test } = digits();
        assert_eq!((train.len(), test.len()), (TRAIN, TEST));
        assert_eq!((train.shape(), train.classes()), ([1, 8, 8], 10));
    }

    #[test]
    fn the_digits_satisfy_what_images_promise() {
        let Splits { train, test } = digits();
        for set in [train, test] {
            let again = Images::new(set.name(), set.images().to_vec(), set.labels().to_vec(), set.shape(), 10);
            assert_eq!(again.unwrap(), set);
        }
    }

    #[test]
    fn every_pixel_is_a_sixteenth_between_0_and_1_and_both_ends_occur() {
        let Splits { train, .. } = digits();
        assert!(train.images().iter().all(|&pixel| (0.0..=1.0).contains(&pixel) && (pixel * WHITE).fract() == 0.0));
        assert!(train.images().contains(&0.0) && train.images().contains(&1.0));
    }

    #[test]
    fn each_class_gives_a_fifth_of_its_images_to_the_test() {
        let Splits { train, test } = digits();
        for class in 0..10 {
            let count = |set: &Images| set.labels().iter().filter(|&&label| label == class).count() as f64;
            let share = count(&test) / (count(&train) + count(&test));
            assert!((share - 360.0 / 1797.0).abs() < 1.0 / 170.0, "class {class}: {share}");
        }
    }

    #[test]
    fn the_first_digit_reads_as_in_the_source() {
        // Row 1704 of the CSV (from 0) has the smallest hash of the training part.
        let Splits { train, .. } = digits();
        let pixels: Vec<u8> = train.images()[..64].iter().map(|&pixel| (pixel * WHITE) as u8).collect();
        assert_eq!(train.labels()[0], 9);
        assert_eq!(pixels[..16], [0, 0, 12, 16, 14, 8, 0, 0, 0, 7, 16, 10, 14, 16, 0, 0]);
    }
}
