//! Images from PNG and JPEG files: what a file claims is held to limits, then it is decoded, turned and resized.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader as Decoder, Limits};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::image::{Image, shorter};
use crate::error::{Error, Result};

/// How PNG and JPEG files become [`Image`]s: their channels, their size, and how large they may be.
///
/// The content of a file says which of the two it is, not its name. Palettes, 16 bits and CMYK are converted to red, green
/// and blue, transparency is left out, and the image is turned as its EXIF orientation says.
///
/// ```no_run
/// use kiln::data::{DataLoader, ImageReader, items};
///
/// // Files that are listed somewhere: a table, say.
/// let files = items(vec![("photos/1.jpg", 0u32), ("photos/2.png", 1)]);
/// let reader = ImageReader::new().resize([64, 64]);
/// let loader = DataLoader::new(files, 32).try_map(move |(path, class), _| Ok((reader.read(path)?, class)));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageReader {
    grey: bool,
    size: Size,
    most_pixels: u64,
    most_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Size {
    Own,
    Exact([usize; 2]),
    Shorter(usize),
}

impl Default for ImageReader {
    fn default() -> ImageReader {
        ImageReader { grey: false, size: Size::Own, most_pixels: 1 << 26, most_bytes: 64 << 20 }
    }
}

impl ImageReader {
    /// Three channels, the size that the file has, at most 2^26 pixels (8192 x 8192) and 64 MiB.
    pub fn new() -> ImageReader {
        ImageReader::default()
    }

    /// One channel instead of three.
    #[must_use]
    pub fn grey(mut self) -> Self {
        self.grey = true;
        self
    }

    /// Resizes to height and width as [`Image::resize`] does, but while the pixels are bytes: faster, in less memory, and
    /// rounded to 256 levels.
    #[must_use]
    pub fn resize(mut self, size: [usize; 2]) -> Self {
        self.size = Size::Exact(size);
        self
    }

    /// Resizes so that the shorter side has `side` pixels, as [`ImageReader::resize`] does.
    #[must_use]
    pub fn resize_shorter(mut self, side: usize) -> Self {
        self.size = Size::Shorter(side);
        self
    }

    /// The most pixels that an image may have, in its file and once it is resized. As an [`Image`] a pixel takes 12 bytes,
    /// and up to about as many while it is decoded.
    #[must_use]
    pub fn most_pixels(mut self, pixels: u64) -> Self {
        self.most_pixels = pixels;
        self
    }

    /// The most bytes that a file may have.
    #[must_use]
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// The image of a file.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::File`] for one that is neither PNG nor JPEG, is cut or
    /// damaged, or is larger than the limits. A JPEG file has no checksum: only an end that is missing is seen.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Image> {
        let path = path.as_ref();
        let io = |error| Error::io(path, "read", error);
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut bytes = vec![];
        if length <= self.most_bytes {
            bytes.reserve_exact(length as usize);
            // What has been written since counts, too.
            file.take(self.most_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
        }
        let next = "take another copy of the file, leave it out, or raise the limits of ImageReader";
        let length = length.max(bytes.len() as u64);
        self.image(&bytes, length).map_err(|what| Error::File { path: path.into(), offset: 0, what, next })
    }

    /// The image of a file that is in memory.
    ///
    /// # Errors
    /// [`Error::Data`] for what [`ImageReader::read`] refuses.
    pub fn decode(&self, bytes: &[u8]) -> Result<Image> {
        let next = "pass the bytes of a PNG or JPEG file, or raise the limits of ImageReader";
        self.image(bytes, bytes.len() as u64).map_err(|what| Error::Data { what, next })
    }

    fn image(&self, bytes: &[u8], length: u64) -> Result<Image, String> {
        if length > self.most_bytes {
            return Err(format!("it has {length} bytes, more than {}", self.most_bytes));
        }
        let decoded = self.decoded(bytes)?;
        let (height, width) = (decoded.height() as usize, decoded.width() as usize);
        let size = match self.size {
            Size::Own => [height, width],
            Size::Exact(size) => size,
            Size::Shorter(side) => shorter(height, width, side),
        };
        let pixels = (size[0] as u64).saturating_mul(size[1] as u64);
        if pixels == 0 || pixels > self.most_pixels {
            let [height, width] = size;
            return Err(format!("resized to {height}x{width} it has {pixels} pixels, of 1 to {}", self.most_pixels));
        }
        let colour = decoded.color();
        let text = |error: Error| error.to_string();
        let image = if colour.bytes_per_pixel() / colour.channel_count() > 1 {
            let (channels, values) = if colour.has_color() {
                (3, planes(decoded.into_rgb16().as_raw(), 3, 65_535.0))
            } else {
                (1, planes(decoded.into_luma16().as_raw(), 1, 65_535.0))
            };
            let image = Image::new(channels, height, width, values).map_err(text)?;
            if self.size == Size::Own { image } else { image.resize(size).map_err(text)? }
        } else {
            let (channels, raw) = if colour.has_color() {
                (3, decoded.into_rgb8().into_raw())
            } else {
                (1, decoded.into_luma8().into_raw())
            };
            let raw = if size == [height, width] { raw } else { resized(&raw, channels, [height, width], size)? };
            Image::new(channels, size[0], size[1], planes(&raw, channels, 255.0)).map_err(text)?
        };
        Ok(if self.grey { image.one_channel() } else { image.three_channels() })
    }

    /// Pixels as the file has them, the right way up.
    fn decoded(&self, bytes: &[u8]) -> Result<DynamicImage, String> {
        let format = match ::image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            Ok(other) => return Err(format!("its content is {other:?}, neither PNG nor JPEG")),
            Err(_) if bytes.is_empty() => return Err("it is empty".into()),
            Err(_) => return Err("its content is neither PNG nor JPEG".into()),
        };
        if format == ImageFormat::Jpeg && !ends(bytes) {
            return Err("it is cut: a JPEG file without an end".into());
        }
        let text = |error: ::image::ImageError| error.to_string();
        let mut decoder = Decoder::with_format(Cursor::new(bytes), format).into_decoder().map_err(text)?;
        // The header alone has been read: nothing has been allocated for pixels.
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || pixels > self.most_pixels {
            return Err(format!("it claims {width}x{height} pixels, and may have 1 to {}", self.most_pixels));
        }
        let mut limits = Limits::no_limits();
        // The largest pixel has eight bytes, and a decoder works on a few copies; text may stand beside them.
        limits.max_alloc = Some(self.most_pixels.saturating_mul(32).saturating_add(self.most_bytes));
        decoder.set_limits(limits).map_err(text)?;
        let orientation = decoder.orientation().map_err(text)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(text)?;
        image.apply_orientation(orientation);
        Ok(image)
    }
}

/// Whether a JPEG file has the marker of its end. The decoder makes up pixels that are missing, and says nothing.
fn ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    // Segments in front of the pixels have a length; a small picture in one has an end of its own.
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4)
        && marker != 0xda
    {
        at += if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
    }
    bytes.get(at..).is_some_and(|rest| rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]))
}

/// Pixels of another size: bilinear, and a mean of what is covered where the image shrinks.
fn resized(raw: &[u8], channels: usize, from: [usize; 2], to: [usize; 2]) -> Result<Vec<u8>, String> {
    match channels {
        1 => resized_pixels::<U8>(raw, from, to),
        _ => resized_pixels::<U8x3>(raw, from, to),
    }
}

/// By the kind of pixel: the resizer that finds it out by itself is compiled for a dozen kinds, a quarter of this crate's code.
fn resized_pixels<P: InnerPixel + PixelTrait>(raw: &[u8], from: [usize; 2], to: [usize; 2]) -> Result<Vec<u8>, String> {
    let side = |side: usize| u32::try_from(side).map_err(|_| format!("a side of {side} pixels"));
    let (width, height) = (side(to[1])?, side(to[0])?);
    let source =
        TypedImageRef::<P>::from_buffer(side(from[1])?, side(from[0])?, raw).map_err(|error| error.to_string())?;
    let mut pixels = vec![0; to[0] * to[1] * P::size()];
    let mut target = TypedImage::<P>::from_buffer(width, height, &mut pixels).map_err(|error| error.to_string())?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    Resizer::new().resize_typed(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(pixels)
}

/// Channel by channel, and in [0, 1].
fn planes<T: Copy + Into<f32>>(pixels: &[T], channels: usize, white: f32) -> Vec<f32> {
    let mut values = Vec::with_capacity(pixels.len());
    for channel in 0..channels {
        values.extend(pixels[channel..].iter().step_by(channels).map(|&value| value.into() / white));
    }
    values
}
