//! Images as PNG files.

use std::io::Write;

use flate2::Compression;
use flate2::Crc;
use flate2::write::ZlibEncoder;

use std::panic::Location;

use crate::error::{Error, Result};

/// A grey or coloured image of 8 bits a channel, for TensorBoard and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    channels: usize,
    /// Row by row, the channels of a pixel together.
    pixels: Vec<u8>,
}

impl Picture {
    /// From values `[channels, height, width]`, as the data sets have them: `low` becomes black and `high` white, and what
    /// lies beyond is cut off; NaN is black. One channel is grey, three are red, green and blue.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of channels, an empty image, or a number of values that does not fit.
    #[track_caller]
    pub fn new(values: &[f32], shape: [usize; 3], low: f32, high: f32) -> Result<Picture> {
        let [channels, height, width] = shape;
        let size = height.checked_mul(width).filter(|&size| size > 0 && size < 1 << 28);
        let size = size.filter(|&size| matches!(channels, 1 | 3) && size * channels == values.len());
        let Some(size) = size else {
            return Err(Error::Shape {
                op: "Picture::new",
                at: Location::caller(),
                what: format!("{} values for an image of shape {shape:?}", values.len()),
                next: "pass values as [channels, height, width] with one channel or three",
            });
        };
        let byte = |value: f32| ((value - low) / (high - low) * 255.0).round() as u8;
        let pixels = (0..size * channels).map(|i| byte(values[i % channels * size + i / channels])).collect();
        Ok(Picture { width, height, channels, pixels })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> [usize; 2] {
        [self.width, self.height]
    }

    /// Number of channels, 1 or 3.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The image as a PNG file (ISO/IEC 15948).
    pub fn png(&self) -> Vec<u8> {
        let colour = if self.channels == 1 { 0 } else { 2 };
        let mut header = [self.width as u32, self.height as u32].map(u32::to_be_bytes).concat();
        // Bits a channel, kind of colour, and the only compression, filters and order that are usual.
        header.extend([8, colour, 0, 0, 0]);
        let mut rows = Vec::with_capacity(self.pixels.len() + self.height);
        for row in self.pixels.chunks_exact(self.width * self.channels) {
            rows.push(0); // no filter
            rows.extend(row);
        }
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", compressed(&rows)), (b"IEND", vec![])] {
            let mut checksum = Crc::new();
            checksum.update(kind);
            checksum.update(&data);
            file.extend((data.len() as u32).to_be_bytes());
            file.extend(kind);
            file.extend(data);
            file.extend(checksum.sum().to_be_bytes());
        }
        file
    }

    /// The PNG file as a text that a page can hold.
    pub(super) fn data_url(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png()))
    }
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(vec![], Compression::default());
    // Memory takes whatever is written.
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let word = three.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place > three.len() { '=' } else { digit as char });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        // RFC 4648, section 10.
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"].map(|text| base64(text.as_bytes()));
        assert_eq!(texts, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"]);
    }

    #[test]
    fn channels_become_pixels_and_values_are_cut_to_the_range() {
        let image = Picture::new(&[0.0, 1.0, 0.5, 2.0, -1.0, f32::NAN], [3, 1, 2], 0.0, 1.0).unwrap();
        assert_eq!(image.pixels, [0, 128, 0, 255, 255, 0]);
        assert!(Picture::new(&[0.0; 4], [2, 1, 2], 0.0, 1.0).is_err());
    }
}
