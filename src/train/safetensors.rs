//! The safetensors format: eight bytes with the header's length, a JSON header, the tensors' bytes.
//!
//! Reading trusts nothing: every length is held to the file's own before memory is asked for, the tensors must lie one after
//! the other from the first byte behind the header to the last, and no name may be there twice. A file is held in memory
//! once, as it is; it is not mapped, for a mapped file that becomes shorter ends the process. Writing takes the numbers
//! from the device in pieces.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

pub(super) use safetensors::Dtype;
use serde_json::{Map, Value, json};

use super::json;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::file::{self, Durability};
use crate::packed::{Demand, Packed, encode, file_dtype};
use crate::shape::Shape;
use crate::transfer::{Place, Reader};

/// Longest header that is read and written, as in the format's own library.
const MAX_HEADER: u64 = 100_000_000;
/// The one name that no tensor can have.
const METADATA: &str = "__metadata__";
/// What errors call a file that is in memory.
const MEMORY: &str = "bytes in memory";
const DAMAGED: &str = "take another copy of the file; this one is damaged, or not in safetensors format";

/// A tensor to be written.
pub(super) struct Item {
    pub name: String,
    pub dtype: DType,
    /// Whether floats of 32 bits are written with their f64 bits.
    pub exact: bool,
    pub shape: Shape,
    pub place: Place,
    pub demand: Demand,
}

/// Where the bytes of a file go.
pub(super) enum Target<'a> {
    File(&'a Path),
    Memory(&'a mut Vec<u8>),
}

impl Target<'_> {
    pub fn path(&self) -> &Path {
        match self {
            Target::File(path) => path,
            Target::Memory(_) => Path::new(MEMORY),
        }
    }
}

/// A file that has been read.
pub(super) struct Content {
    path: PathBuf,
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// A tensor of a file.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// First byte and the one after the last, from the header's end on.
    start: usize,
    end: usize,
}

/// Writes a file.
pub(super) fn write(to: Target<'_>, mut items: Vec<Item>, metadata: &[(&str, String)]) -> Result<()> {
    let path = &to.path().to_path_buf();
    let refuse = |what: String, next| Error::Checkpoint { path: path.into(), what, next };
    // The widest first, so that every tensor begins at a multiple of its element's size.
    items.sort_by_key(|item| std::cmp::Reverse(file_dtype(item.dtype, item.exact).bitsize()));
    let mut names = HashSet::from([METADATA]);
    let texts: Map<String, Value> = metadata.iter().map(|(key, text)| (key.to_string(), json!(text))).collect();
    let mut header = format!("{{\"{METADATA}\":{}", Value::Object(texts));
    let mut end = 0;
    for item in &items {
        if !names.insert(&item.name) {
            return Err(refuse(format!("the name `{}` is taken in files", item.name), "give it another name"));
        }
        let (start, dtype, shape) = (end, file_dtype(item.dtype, item.exact), Value::from(item.shape.to_vec()));
        end += item.shape.elements() as u64 * dtype.bitsize() as u64 / 8;
        let name = Value::from(item.name.as_str());
        // The members in the order of the format's own library.
        header += &format!(",{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":[{start},{end}]}}");
    }
    header.push('}');
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    if header.len() as u64 > MAX_HEADER {
        let what = format!("its header would have {} bytes, where readers take {MAX_HEADER}", header.len());
        return Err(refuse(what, "use fewer parameters, shorter names or less metadata"));
    }
    let fill = |out: &mut dyn Write| {
        let io = |error| Error::io(path, "write", error);
        out.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
        out.write_all(header.as_bytes()).map_err(io)?;
        let mut reader = Reader::default();
        for item in &items {
            let dtype = file_dtype(item.dtype, item.exact);
            let mut first = 0;
            reader.read(&item.place, item.shape.elements(), &mut |part| {
                let bytes = encode(part, dtype);
                // What could not be loaded again shall not take the place of what can.
                let sound = Packed::new(dtype, &bytes).check(item.dtype, item.exact, item.demand, first);
                sound.map_err(|why| {
                    let next = "keep the last file; find out with KILN_CHECK=1 where it comes from";
                    refuse(format!("`{}` {why}", item.name), next)
                })?;
                first += part.len();
                out.write_all(&bytes).map_err(io)
            })?;
        }
        Ok(())
    };
    match to {
        Target::File(path) => file::replace(path, Durability::Power, fill),
        Target::Memory(bytes) => {
            bytes.clear();
            fill(bytes)
        }
    }
}

/// Reads a file and checks that it is what it says.
pub(super) fn read(path: &Path) -> Result<Content> {
    let io = |error| Error::io(path, "read", error);
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    read_from(path, &mut file, length)
}

/// [`read`] for a file that is in memory.
pub(super) fn read_bytes(bytes: &[u8]) -> Result<Content> {
    let mut left = bytes;
    read_from(Path::new(MEMORY), &mut left, bytes.len() as u64)
}

/// [`read`] for so many bytes of `file`.
fn read_from(path: &Path, file: &mut impl Read, length: u64) -> Result<Content> {
    let io = |error| Error::io(path, "read", error);
    let refuse = |offset: u64, what: String| Error::File { path: path.into(), offset, what, next: DAMAGED };
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => refuse(0, format!("the file has {length} bytes, no header")),
        _ => io(error),
    })?;
    let header = u64::from_le_bytes(size);
    if header > MAX_HEADER || header > length.saturating_sub(8) {
        return Err(refuse(0, format!("a header of {header} bytes in a file of {length}")));
    }
    let text = take(file, header).map_err(io)?;
    if text.len() as u64 != header {
        return Err(refuse(8, "the file became shorter while it was read".into()));
    }
    let parsed = json::parse(&text).map_err(|error| refuse(8, format!("the header: {error}")))?;
    drop(text);
    let Value::Object(entries) = parsed else { return Err(refuse(8, "the header is not a JSON object".into())) };
    let mut tensors = BTreeMap::new();
    let mut metadata = BTreeMap::new();
    for (name, entry) in entries {
        if name == METADATA {
            let texts = entry.as_object().into_iter().flatten();
            metadata.extend(texts.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))));
            if entry.as_object().is_none_or(|map| map.len() != metadata.len()) {
                return Err(refuse(8, "the metadata are no texts".into()));
            }
            continue;
        }
        let tensor = entry_of(&entry).map_err(|what| refuse(8, format!("tensor `{name}`: {what}")))?;
        tensors.insert(name, tensor);
    }
    let available = length - 8 - header;
    check_places(&tensors, available).map_err(|(at, what)| refuse(8 + header + at, what))?;
    let bytes = take(file, available).map_err(io)?;
    if bytes.len() as u64 != available {
        return Err(refuse(8 + header, "the file became shorter while it was read".into()));
    }
    Ok(Content { path: path.into(), bytes, tensors, metadata })
}

/// The next `length` bytes; fewer where the file ends.
fn take(file: &mut impl Read, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![];
    let room = usize::try_from(length).map_err(|_| ErrorKind::OutOfMemory)?;
    bytes.try_reserve_exact(room).map_err(|_| ErrorKind::OutOfMemory)?;
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A tensor of the header.
fn entry_of(entry: &Value) -> Result<Entry, String> {
    let dtype = entry["dtype"].as_str().ok_or("no dtype")?;
    let list = |value: &Value| -> Option<Vec<u64>> { value.as_array()?.iter().map(Value::as_u64).collect() };
    let shape = list(&entry["shape"]).ok_or("no shape")?;
    let offsets = list(&entry["data_offsets"]).filter(|offsets| offsets.len() == 2).ok_or("no data_offsets")?;
    let known: Dtype = serde_json::from_value(entry["dtype"].clone())
        .map_err(|_| format!("its dtype `{dtype}` is none of the format's"))?;
    let count = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side)).ok_or("an absurd shape")?;
    let bits = count.checked_mul(known.bitsize() as u64).ok_or("an absurd shape")?;
    let [start, end] = [offsets[0], offsets[1]];
    if bits % 8 != 0 || start.checked_add(bits / 8) != Some(end) {
        return Err(format!("bytes {start} to {end} do not hold {dtype} of shape {shape:?}"));
    }
    let narrow = |value: u64| usize::try_from(value).map_err(|_| "an absurd shape");
    let shape = shape.into_iter().map(narrow).collect::<Result<_, _>>()?;
    Ok(Entry { dtype: known, shape, start: narrow(start)?, end: narrow(end)? })
}

/// `Err` with the byte and what is wrong there unless the tensors fill `available` bytes, one after the other.
fn check_places(tensors: &BTreeMap<String, Entry>, available: u64) -> Result<(), (u64, String)> {
    let mut order: Vec<(&String, &Entry)> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.start, entry.end));
    let mut end = 0;
    for (name, entry) in order {
        if entry.start != end {
            let what = format!("tensor `{name}` begins at byte {} of the data, where {end} is due", entry.start);
            return Err((end as u64, what));
        }
        end = entry.end;
        if end as u64 > available {
            let what = format!("tensor `{name}` ends at byte {end} of the data, of which there are {available}");
            return Err((available, what + "; the file is cut short or its header is wrong"));
        }
    }
    match available - end as u64 {
        0 => Ok(()),
        more => Err((end as u64, format!("{more} bytes follow the last tensor"))),
    }
}

impl Content {
    /// Names of all tensors, and whether each is of a float type.
    pub fn names(&self) -> impl Iterator<Item = (&str, bool)> {
        let is_float = |entry: &Entry| matches!(entry.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
        self.tensors.iter().map(move |(name, entry)| (name.as_str(), is_float(entry)))
    }

    /// Names of all tensors, and the type and shape of each.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Dtype, &[usize])> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry.dtype, &*entry.shape))
    }

    /// Names that begin with `prefix`, in order.
    pub fn names_below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let all = self.tensors.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        all.map(|(name, _)| name.as_str()).take_while(move |name| name.starts_with(prefix))
    }

    /// Shape and elements of a tensor.
    pub fn tensor(&self, name: &str) -> Option<(&[usize], Packed<'_>)> {
        let entry = self.tensors.get(name)?;
        Some((&entry.shape, Packed::new(entry.dtype, &self.bytes[entry.start..entry.end])))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An error about what is in this file.
    pub fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        Error::Checkpoint { path: self.path.clone(), what: what.into(), next }
    }
}
