//! Sound from WAV files: PCM of 8, 16, 24 or 32 bits, and floats of 32 bits.

use std::path::Path;

use super::collate::HostArray;
use crate::error::{Error, Result};

/// Sound in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    /// Samples a second.
    pub rate: u32,
    /// `[channels, samples]`; whole numbers are scaled to [-1, 1).
    pub samples: HostArray<f32>,
}

/// The sound of a WAV file.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read; [`Error::File`] for one that is no WAV file, is cut, or holds samples of
/// another kind.
pub fn wav(path: impl AsRef<Path>) -> Result<Sound> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    let next = "convert it to PCM of 16 bits, or take another copy";
    parse(&bytes).map_err(|(offset, what)| Error::File { path: path.into(), offset: offset as u64, what, next })
}

/// The `fmt ` chunk.
struct Format {
    code: u16,
    channels: usize,
    rate: u32,
    bits: u16,
}

fn parse(bytes: &[u8]) -> Result<Sound, (usize, String)> {
    let is_wav = bytes.get(..4) == Some(b"RIFF") && bytes.get(8..12) == Some(b"WAVE");
    if !is_wav {
        return Err((0, "it does not begin as a WAV file does".into()));
    }
    let mut format: Option<Format> = None;
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let start = at + 8;
        let body = bytes.get(start..start.saturating_add(length));
        let body = body.ok_or_else(|| {
            let what = format!("a chunk of {length} bytes, of which {} are there", bytes.len() - start);
            (at, what)
        })?;
        match &head[..4] {
            b"fmt " => format = Some(read_format(body).ok_or((start, "the format is cut".to_string()))?),
            b"data" => {
                let format = format.ok_or((at, "samples without a format in front".to_string()))?;
                return samples(body, &format).map_err(|what| (start, what));
            }
            _ => {}
        }
        // Chunks begin at even bytes.
        at = start + length + length % 2;
    }
    Err((bytes.len(), "the file ends without samples".into()))
}

fn read_format(body: &[u8]) -> Option<Format> {
    let short = |at: usize| Some(u16::from_le_bytes([*body.get(at)?, *body.get(at + 1)?]));
    let code = short(0)?;
    // An extensible format has the code that counts further behind.
    let code = if code == 0xfffe { short(24)? } else { code };
    let rate = u32::from(short(4)?) | u32::from(short(6)?) << 16;
    Some(Format { code, channels: short(2)?.into(), rate, bits: short(14)? })
}

fn samples(body: &[u8], format: &Format) -> Result<Sound, String> {
    let bytes = usize::from(format.bits / 8);
    let sample: fn(&[u8]) -> f32 = match (format.code, format.bits) {
        (1, 8) => |b| (f32::from(b[0]) - 128.0) / 128.0,
        (1, 16) => |b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32_768.0,
        (1, 24) => |b| (i32::from_le_bytes([0, b[0], b[1], b[2]]) >> 8) as f32 / 8_388_608.0,
        (1, 32) => |b| (f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])) / 2_147_483_648.0) as f32,
        (3, 32) => |b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        (code, bits) => return Err(format!("samples of format {code} with {bits} bits")),
    };
    let frame = bytes * format.channels;
    if frame == 0 || !body.len().is_multiple_of(frame) {
        return Err(format!("{} bytes are no whole number of samples of {} channels", body.len(), format.channels));
    }
    let count = body.len() / frame;
    let place = |channel: usize| (0..count).map(move |index| &body[index * frame + channel * bytes..][..bytes]);
    let values = (0..format.channels).flat_map(place).map(sample).collect();
    Ok(Sound { rate: format.rate, samples: HostArray { shape: vec![format.channels, count], values } })
}
