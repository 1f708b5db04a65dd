//! Arrays from NumPy's `.npy` files and from safetensors files.

use std::path::Path;

use super::collate::HostArray;
use crate::error::{Error, Result};
use crate::host::Element;

const MAGIC: &[u8] = b"\x93NUMPY";
const SAVE_AGAIN: &str = "save it again with numpy.save";

/// The array of a `.npy` file (versions 1 to 3, row-major, little-endian or single bytes).
///
/// Floats are rounded to `T`; a whole number, 0 or 1 of a `bool`, must be one that `T` holds.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::File`] for one that is no such array, is cut, or has an element
/// that `T` does not hold.
pub fn npy<T: Element>(path: impl AsRef<Path>) -> Result<HostArray<T>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    parse(&bytes).map_err(|(offset, what)| Error::File { path: path.into(), offset, what, next: SAVE_AGAIN })
}

/// The tensor `name` of a safetensors file, as [`npy`] reads an array.
///
/// # Errors
/// [`Error::Io`] for a file that cannot be read, [`Error::File`] for one that is damaged, has no such tensor, or has an
/// element that `T` does not hold.
pub fn safetensors<T: Element>(path: impl AsRef<Path>, name: &str) -> Result<HostArray<T>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    let refuse = |what| Error::File { path: path.into(), offset: 0, what, next: "see what the file holds" };
    let file = safetensors::SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let tensor = file.tensor(name).map_err(|error| refuse(format!("`{name}`: {error}")))?;
    let kind = format!("{:?}", tensor.dtype());
    let values = match kind.as_str() {
        "BF16" => numbers(tensor.data(), |b| half::bf16::from_le_bytes(b).to_f64()),
        "F16" => elements(tensor.data(), "f2"),
        "F32" => elements(tensor.data(), "f4"),
        "F64" => elements(tensor.data(), "f8"),
        "I8" => elements(tensor.data(), "i1"),
        "I16" => elements(tensor.data(), "i2"),
        "I32" => elements(tensor.data(), "i4"),
        "I64" => elements(tensor.data(), "i8"),
        "U8" | "BOOL" => elements(tensor.data(), "u1"),
        "U16" => elements(tensor.data(), "u2"),
        "U32" => elements(tensor.data(), "u4"),
        "U64" => elements(tensor.data(), "u8"),
        _ => Err(format!("`{name}` has elements of {kind}, which are not read")),
    };
    let values = values.map_err(refuse)?;
    Ok(HostArray { shape: tensor.shape().to_vec(), values })
}

/// The array, or the byte at fault and what is wrong there.
fn parse<T: Element>(bytes: &[u8]) -> Result<HostArray<T>, (u64, String)> {
    let short = || (bytes.len() as u64, "the header ends here".to_string());
    if !bytes.starts_with(MAGIC) {
        return Err((0, "it does not begin as a .npy file does".into()));
    }
    let (&version, lengths) = (bytes.get(6).ok_or_else(short)?, bytes.get(8..12).ok_or_else(short)?);
    let (start, length) = match version {
        1 => (10, usize::from(u16::from_le_bytes([lengths[0], lengths[1]]))),
        2 | 3 => (12, u32::from_le_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]) as usize),
        _ => return Err((6, format!("version {version} is not known"))),
    };
    let end = start + length;
    let header = bytes.get(start..end).ok_or_else(short)?;
    let header = std::str::from_utf8(header).map_err(|_| (start as u64, "the header is no text".to_string()))?;
    let entry = |name: &str| {
        let rest = header.split_once(&format!("'{name}':")).map(|(_, rest)| rest.trim_start());
        rest.ok_or_else(|| (start as u64, format!("the header has no `{name}`")))
    };
    if entry("fortran_order")?.starts_with("True") {
        return Err((start as u64, "the array is column-major: save numpy.ascontiguousarray of it".into()));
    }
    let descr = entry("descr")?.trim_start_matches('\'').split('\'').next().unwrap_or("");
    let kind = descr.strip_prefix(['<', '|', '=']);
    let kind = kind.ok_or_else(|| (start as u64, format!("elements of {descr}, not little-endian")))?;
    let shape = entry("shape")?.trim_start_matches('(').split(')').next().unwrap_or("");
    let sides: Result<Vec<usize>, _> =
        shape.split(',').map(str::trim).filter(|side| !side.is_empty()).map(str::parse).collect();
    let shape = sides.map_err(|_| (start as u64, format!("the shape ({shape}) is none")))?;
    let count = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));

    let values = elements::<T>(&bytes[end..], kind).map_err(|what| (end as u64, what))?;
    if count != Some(values.len()) {
        return Err((end as u64, format!("{} elements follow, for shape {shape:?}", values.len())));
    }
    Ok(HostArray { shape, values })
}

/// Elements of a kind in NumPy's words.
fn elements<T: Element>(bytes: &[u8], kind: &str) -> Result<Vec<T>, String> {
    match kind {
        "f2" => numbers(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        "f4" => numbers(bytes, |b| f64::from(f32::from_le_bytes(b))),
        "f8" => numbers(bytes, f64::from_le_bytes),
        "i1" => numbers(bytes, |b| f64::from(i8::from_le_bytes(b))),
        "i2" => numbers(bytes, |b| f64::from(i16::from_le_bytes(b))),
        "i4" => numbers(bytes, |b| f64::from(i32::from_le_bytes(b))),
        "i8" => numbers(bytes, |b| i64::from_le_bytes(b) as f64),
        "u1" | "b1" => numbers(bytes, |b: [u8; 1]| f64::from(b[0])),
        "u2" => numbers(bytes, |b| f64::from(u16::from_le_bytes(b))),
        "u4" => numbers(bytes, |b| f64::from(u32::from_le_bytes(b))),
        "u8" => numbers(bytes, |b| u64::from_le_bytes(b) as f64),
        _ => Err(format!("elements of {kind}, which are not read")),
    }
}

fn numbers<T: Element, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Result<Vec<T>, String> {
    let (elements, rest) = bytes.as_chunks::<N>();
    if !rest.is_empty() {
        return Err(format!("{} bytes are no whole number of elements of {N}", bytes.len()));
    }
    let one = |(index, &bytes): (usize, &[u8; N])| {
        let value = number(bytes);
        let held = if T::DTYPE.is_float() { Some(value) } else { T::DTYPE.hold(value) };
        held.map(T::from_f64).ok_or_else(|| format!("element {index} is {value}, which {} does not hold", T::DTYPE))
    };
    elements.iter().enumerate().map(one).collect()
}
