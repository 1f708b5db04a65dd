//! The safetensors format: eight bytes with the header's length, a JSON header, the tensors' bytes.
//!
//! Reading trusts nothing: every length is held to the file's own before memory is asked for. Writing goes to another
//! name in the same directory, which then takes the place of the old file: whoever stops it leaves the old file whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::shape::Shape;

/// Longest header that is read, as in the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// A tensor to be written.
pub(super) struct Item {
    pub name: String,
    pub shape: Shape,
    pub values: Vec<f64>,
}

/// A file that has been read.
pub(super) struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Name -> (dtype, shape, first byte in `bytes`).
    tensors: BTreeMap<String, (Element, Vec<usize>, usize)>,
    pub metadata: BTreeMap<String, String>,
}

/// Element types that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    F64,
    F32,
    F16,
    Bf16,
}

impl Element {
    fn bytes(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// Writes a file of F64 (`exact`) or F32 tensors.
pub(super) fn write(path: &Path, items: &[Item], exact: bool, key: &str, text: String) -> Result<()> {
    let pack = |item: &Item| -> Vec<u8> {
        match exact {
            true => item.values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            false => item.values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        }
    };
    let data: Vec<Vec<u8>> = items.iter().map(pack).collect();
    let dtype = if exact { Dtype::F64 } else { Dtype::F32 };
    let refuse = |error: safetensors::SafeTensorError| Error::internal(format!("safetensors: {error}"));
    let mut views = vec![];
    for (item, data) in items.iter().zip(&data) {
        let view = TensorView::new(dtype, item.shape.to_vec(), data).map_err(refuse)?;
        views.push((item.name.as_str(), view));
    }
    let metadata = std::collections::HashMap::from([(key.to_string(), text)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(refuse)?;
    replace(path, &bytes)
}

/// Puts `bytes` in the place of the file at `path`, all or nothing.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let Some(name) = path.file_name() else {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path does not name a file");
        return Err(Error::io(path, "write", source));
    };
    let mut temporary = name.to_os_string();
    temporary.push(".tmp");
    let temporary = path.with_file_name(temporary);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // Nothing more can be done if even this fails.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(&temporary, "write", error));
    }
    if let Err(error) = fs::rename(&temporary, path) {
        let _ = fs::remove_file(&temporary);
        return Err(Error::io(path, "replace", error));
    }
    // So that the new name survives a power cut; not every system opens directories.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Reads a file and checks that it is what it says.
pub(super) fn read(path: &Path) -> Result<Content> {
    let io = |error| Error::io(path, "read", error);
    let refuse = |offset: u64, what: String| Error::File {
        path: path.into(),
        offset,
        what,
        next: "take another copy of the file; this one is damaged, or not in safetensors format",
    };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| refuse(0, format!("the file has {length} bytes, no header")))?;
    let header = u64::from_le_bytes(size);
    if header > MAX_HEADER || header > length.saturating_sub(8) {
        return Err(refuse(0, format!("a header of {header} bytes in a file of {length}")));
    }
    let mut text = vec![0; header as usize];
    file.read_exact(&mut text).map_err(io)?;
    let parsed: Value = serde_json::from_slice(&text).map_err(|error| refuse(8, format!("the header: {error}")))?;
    let Value::Object(entries) = parsed else { return Err(refuse(8, "the header is not a JSON object".into())) };
    let mut tensors = BTreeMap::new();
    let mut metadata = BTreeMap::new();
    let available = length - 8 - header;
    for (name, entry) in entries {
        if name == "__metadata__" {
            for (key, value) in entry.as_object().into_iter().flatten() {
                metadata.insert(key.clone(), value.as_str().unwrap_or_default().to_string());
            }
            continue;
        }
        let tensor = entry_of(&entry, available).map_err(|what| refuse(8, format!("tensor `{name}`: {what}")))?;
        if let Some(tensor) = tensor {
            tensors.insert(name, tensor);
        }
    }
    let mut bytes = vec![];
    file.take(available).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 != available {
        return Err(refuse(8 + header, "the file became shorter while it was read".into()));
    }
    Ok(Content { path: path.into(), bytes, tensors, metadata })
}

/// A tensor of the header; `None` for an element type that no parameter has.
fn entry_of(entry: &Value, available: u64) -> Result<Option<(Element, Vec<usize>, usize)>, String> {
    let dtype = entry["dtype"].as_str().ok_or("no dtype")?;
    let list = |value: &Value| -> Option<Vec<u64>> { value.as_array()?.iter().map(Value::as_u64).collect() };
    let shape = list(&entry["shape"]).ok_or("no shape")?;
    let offsets = list(&entry["data_offsets"]).filter(|offsets| offsets.len() == 2).ok_or("no data_offsets")?;
    let element = match dtype {
        "F64" => Element::F64,
        "F32" => Element::F32,
        "F16" => Element::F16,
        "BF16" => Element::Bf16,
        _ => return Ok(None),
    };
    let count = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side)).ok_or("an absurd shape")?;
    let bytes = count.checked_mul(element.bytes() as u64).ok_or("an absurd shape")?;
    let [start, end] = [offsets[0], offsets[1]];
    if end > available || start.checked_add(bytes) != Some(end) {
        let data = format!("bytes {start} to {end} of {available} do not hold {dtype} of shape {shape:?}");
        return Err(format!("{data}; the file is cut short or its header is wrong"));
    }
    Ok(Some((element, shape.iter().map(|&side| side as usize).collect(), start as usize)))
}

impl Content {
    /// Names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The elements of a tensor, which must be there with this shape.
    pub fn tensor(&self, name: &str, shape: &Shape) -> Result<Vec<f64>> {
        let Some((element, found, start)) = self.tensors.get(name) else {
            let what = format!("there is no float tensor `{name}`");
            return Err(self.refuse(what, "load a file that was saved from the same model"));
        };
        if found[..] != shape[..] {
            let what = format!("`{name}` has shape {found:?}, the model's has {shape}");
            return Err(self.refuse(what, "build the model with the sizes that the file was saved with"));
        }
        let bytes = &self.bytes[*start..start + shape.elements() * element.bytes()];
        let halves = |bytes: &[u8]| -> u16 { u16::from_le_bytes([bytes[0], bytes[1]]) };
        Ok(match element {
            Element::F64 => bytemuck::pod_collect_to_vec(bytes),
            Element::F32 => bytemuck::pod_collect_to_vec::<u8, f32>(bytes).into_iter().map(f64::from).collect(),
            Element::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_bits(halves(b)).to_f64()).collect(),
            Element::Bf16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(halves(b)).to_f64()).collect(),
        })
    }

    /// Shape and elements of a tensor, if it is there.
    pub fn any(&self, name: &str) -> Option<(Shape, Vec<f64>)> {
        let shape = Shape::new(&self.tensors.get(name)?.1)?;
        Some((shape, self.tensor(name, &shape).ok()?))
    }

    /// An error about what is in this file.
    pub fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        Error::Checkpoint { path: self.path.clone(), what: what.into(), next }
    }
}
