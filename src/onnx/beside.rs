//! Numbers of an exported model that go to a file beside it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::decode::EXTERNAL;
use super::proto::{EntryProto, ModelProto};
use crate::error::{Error, Result};

/// Where each tensor begins is a multiple of this, so that readers can map it.
const PAGE: usize = 4096;

/// The file of the numbers of a model at `path`.
pub fn path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    path.with_file_name(name)
}

/// Takes the numbers of all tensors of at least `least` bytes out of a model that will be at `path`, and leaves there where they are.
///
/// # Errors
/// [`Error::Onnx`] for a path whose name a file of this format cannot hold.
pub fn moved(model: &mut ModelProto, at: &Path, least: usize) -> Result<Vec<Vec<u8>>> {
    let file = path(at);
    let Some(location) = file.file_name().and_then(|name| name.to_str()) else {
        let what = format!("{} has a name that is no text", file.display());
        return Err(Error::Onnx { what, next: "choose another name: the model says where its numbers are" });
    };
    let entry = |key: &str, value: String| EntryProto { key: key.into(), value };
    let (mut numbers, mut offset) = (vec![], 0);
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        if tensor.raw_data.len() < least.max(1) {
            continue;
        }
        let bytes = std::mem::take(&mut tensor.raw_data);
        tensor.data_location = EXTERNAL;
        tensor.external_data = vec![
            entry("location", location.into()),
            entry("offset", offset.to_string()),
            entry("length", bytes.len().to_string()),
        ];
        offset += bytes.len().next_multiple_of(PAGE);
        numbers.push(bytes);
    }
    Ok(numbers)
}

/// Writes what [`moved`] gave, each tensor at its place.
///
/// # Errors
/// Those of writing.
pub fn write(numbers: &[Vec<u8>], to: &mut dyn Write) -> io::Result<()> {
    for bytes in numbers {
        to.write_all(bytes)?;
        to.write_all(&vec![0; bytes.len().next_multiple_of(PAGE) - bytes.len()])?;
    }
    Ok(())
}
