//! Numbers of an exported model that go to a file beside it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::decode::EXTERNAL;
use super::proto::{EntryProto, ModelProto};
use crate::error::{Error, Result};

/// Where each tensor begins is a multiple of this, so that readers can map it.
const PAGE: usize = 4096;
/// Tensors from so many bytes on go beside a model that no file holds whole.
const LARGE: usize = 1024;

/// The file of the numbers of a model at `path`.
pub fn path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    path.with_file_name(name)
}

/// Takes out of a model that will be at `path` what goes to a file beside: tensors from `least` bytes on, or, where the whole model would
/// pass the `largest` file, all that are not small.
///
/// # Errors
/// [`Error::Onnx`] if what stays passes it all the same; else as [`moved`].
pub fn parted(model: &mut ModelProto, at: &Path, least: Option<usize>, largest: usize) -> Result<Vec<Vec<u8>>> {
    let least = least.or_else(|| (model.encoded_len() > largest).then_some(LARGE));
    let numbers = least.map_or(Ok(vec![]), |least| moved(model, at, least))?;
    fits(model, largest, "put smaller tensors beside the file, by `ExportOptions::beside`")?;
    Ok(numbers)
}

/// Makes sure that a model fits into a file.
///
/// # Errors
/// [`Error::Onnx`] if it does not; `next` is what to do then.
pub fn fits(model: &ModelProto, largest: usize, next: &'static str) -> Result<()> {
    let length = model.encoded_len();
    if length <= largest {
        return Ok(());
    }
    Err(Error::Onnx {
        what: format!("the model takes {length} bytes, a file of this format has {largest} at most"),
        next,
    })
}

/// Takes the numbers of all tensors of at least `least` bytes out of a model that will be at `path`, and leaves there where they are.
///
/// # Errors
/// [`Error::Onnx`] for a path whose name a file of this format cannot hold.
fn moved(model: &mut ModelProto, at: &Path, least: usize) -> Result<Vec<Vec<u8>>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{GraphProto, TensorProto};

    #[test]
    fn what_stays_in_the_file_is_what_must_fit() {
        let model = |sizes: &[usize]| {
            let tensor = |&size: &usize| TensorProto { raw_data: vec![7; size], ..TensorProto::default() };
            let graph = GraphProto { initializer: sizes.iter().map(tensor).collect(), ..GraphProto::default() };
            ModelProto { graph: Some(graph), ..ModelProto::default() }
        };
        let parted = |sizes: &[usize], least, largest| {
            let mut model = model(sizes);
            let numbers = parted(&mut model, Path::new("net.onnx"), least, largest)?;
            Ok::<_, Error>((numbers.iter().map(Vec::len).collect::<Vec<_>>(), model.encoded_len()))
        };
        // Small enough: all stays.
        assert_eq!(parted(&[800, 3000], None, 10_000).unwrap().0, [0; 0]);
        // What does not fit whole does without its large tensors, and so does what is asked for.
        for least in [None, Some(1000)] {
            let (beside, rest) = parted(&[800, 3000, 5000], least, 2000).unwrap();
            assert_eq!(beside, [3000, 5000]);
            assert!((800..2000).contains(&rest), "{rest}");
        }
        // What stays is too much, whatever has been put beside.
        let error = parted(&[800, 3000, 5000], Some(4000), 2000).unwrap_err().to_string();
        assert!(error.contains("a file of this format has 2000 at most"), "{error}");
        assert!(parted(&[800, 800, 800], None, 2000).is_err());
    }
}
