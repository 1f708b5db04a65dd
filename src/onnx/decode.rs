//! From a tensor in a file to numbers on the host. Nothing is taken at its word: lengths are compared with what is there before
//! anything is set aside for them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::elem::Elem;
use super::numbers::{Data, Numbers, count};
use super::proto::TensorProto;
use super::trouble::{Trouble, unsupported, wrong};
use crate::error::Error;

/// `TensorProto::data_location` of data in a file beside.
pub const EXTERNAL: i32 = 1;

/// Floats from so many elements on are not decoded when a model is read: parameters go from the file to their store in pieces.
const LARGE: usize = 4096;
/// Bytes of a file that are read at once: whole elements.
const WINDOW: usize = 4 << 20;

/// A large tensor of floats, whose bytes are still where the file has them.
#[derive(Debug)]
pub struct Weight {
    /// What the elements are.
    pub elem: Elem,
    /// Axis lengths.
    pub shape: Vec<usize>,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    Here(Vec<u8>),
    Beside(Place),
}

impl Weight {
    /// The element type as safetensors calls it.
    pub fn dtype(&self) -> safetensors::Dtype {
        match self.elem {
            Elem::F16 => safetensors::Dtype::F16,
            Elem::BF16 => safetensors::Dtype::BF16,
            Elem::F64 => safetensors::Dtype::F64,
            _ => safetensors::Dtype::F32,
        }
    }

    /// Hands the bytes on in order, whole elements, with the number of the first: what lies in a file of its own a window at a time.
    ///
    /// # Errors
    /// That of reading the file, or of `take`.
    pub fn pieces(self, mut take: impl FnMut(usize, &[u8]) -> Result<(), Error>) -> Result<(), Trouble> {
        match self.bytes {
            Bytes::Here(bytes) => take(0, &bytes).map_err(Trouble::Op),
            Bytes::Beside(place) => {
                place.windows(|first, bytes| take(first / self.elem.bytes(), bytes).map_err(Trouble::Op))
            }
        }
    }

    /// The same as numbers.
    ///
    /// # Errors
    /// That of reading the file.
    pub fn numbers(self) -> Result<Numbers, Trouble> {
        let bytes = match self.bytes {
            Bytes::Here(bytes) => bytes,
            Bytes::Beside(place) => place.read()?,
        };
        Ok(Numbers::new(self.elem, self.shape, from_bytes(self.elem, &bytes)))
    }
}

/// A tensor that is large, and of floats; its bytes are taken out of `tensor`. `None` for others.
///
/// # Errors
/// As [`numbers`].
pub fn weight(tensor: &mut TensorProto, folder: Option<&Path>) -> Result<Option<Weight>, Trouble> {
    let Some(elem) = Elem::of(tensor.data_type).ok().filter(|elem| elem.is_float()) else { return Ok(None) };
    let Ok(shape) = tensor.dims.iter().map(|&length| usize::try_from(length)).collect::<Result<Vec<_>, _>>() else {
        return Ok(None);
    };
    let elements = count(&shape)?;
    let wanted = elements.saturating_mul(elem.bytes());
    let bytes = if elements < LARGE {
        return Ok(None);
    } else if tensor.data_location == EXTERNAL {
        Bytes::Beside(place(tensor, folder, wanted)?)
    } else if tensor.raw_data.len() == wanted {
        Bytes::Here(std::mem::take(&mut tensor.raw_data))
    } else {
        return Ok(None);
    };
    Ok(Some(Weight { elem, shape, bytes }))
}

/// The numbers of a tensor. `folder` is that of the model, where data beside it are; without one there are none.
///
/// # Errors
/// [`Trouble::Unsupported`] for an element type that Kiln does not hold, [`Trouble::Wrong`] where shape and data do not fit and for data
/// that lie outside of the folder or behind a link.
pub fn numbers(tensor: &TensorProto, folder: Option<&Path>) -> Result<Numbers, Trouble> {
    let elem = match Elem::of(tensor.data_type) {
        Ok(elem) => elem,
        Err(name) => return unsupported(format!("tensor `{}` is of {name}", tensor.name)),
    };
    let mut shape = vec![];
    for &length in &tensor.dims {
        match usize::try_from(length) {
            Ok(length) => shape.push(length),
            Err(_) => return wrong(format!("tensor `{}` has an axis of length {length}", tensor.name)),
        }
    }
    let elements = count(&shape)?;
    let data = if tensor.data_location == EXTERNAL {
        from_bytes(elem, &place(tensor, folder, elements.saturating_mul(elem.bytes()))?.read()?)
    } else if !tensor.raw_data.is_empty() {
        if tensor.raw_data.len() != elements.saturating_mul(elem.bytes()) {
            return misfit(tensor, &shape, tensor.raw_data.len() / elem.bytes());
        }
        from_bytes(elem, &tensor.raw_data)
    } else {
        from_fields(elem, tensor)
    };
    let numbers = Numbers::new(elem, shape, data);
    if numbers.len() != elements {
        return misfit(tensor, &numbers.shape, numbers.len());
    }
    Ok(numbers)
}

fn misfit<T>(tensor: &TensorProto, shape: &[usize], there: usize) -> Result<T, Trouble> {
    wrong(format!("tensor `{}` of shape {shape:?} comes with {there} elements", tensor.name))
}

fn from_bytes(elem: Elem, bytes: &[u8]) -> Data {
    fn each<const N: usize, T>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
    }
    match elem {
        Elem::F32 => Data::Real(each(bytes, |x| f64::from(f32::from_le_bytes(x)))),
        Elem::F64 => Data::Real(each(bytes, f64::from_le_bytes)),
        Elem::F16 => Data::Real(each(bytes, |x| half::f16::from_le_bytes(x).to_f64())),
        Elem::BF16 => Data::Real(each(bytes, |x| half::bf16::from_le_bytes(x).to_f64())),
        Elem::U8 => Data::Whole(each(bytes, |[x]| i64::from(x))),
        Elem::I8 => Data::Whole(each(bytes, |[x]| i64::from(x as i8))),
        Elem::Bool => Data::Whole(each(bytes, |[x]| i64::from(x != 0))),
        Elem::U16 => Data::Whole(each(bytes, |x| i64::from(u16::from_le_bytes(x)))),
        Elem::I16 => Data::Whole(each(bytes, |x| i64::from(i16::from_le_bytes(x)))),
        Elem::I32 => Data::Whole(each(bytes, |x| i64::from(i32::from_le_bytes(x)))),
        Elem::U32 => Data::Whole(each(bytes, |x| i64::from(u32::from_le_bytes(x)))),
        Elem::I64 => Data::Whole(each(bytes, i64::from_le_bytes)),
        // Beyond 63 bits a number is negative here, and refused where it is used.
        Elem::U64 => Data::Whole(each(bytes, |x| u64::from_le_bytes(x) as i64)),
    }
}

/// From the fields that are not raw.
fn from_fields(elem: Elem, tensor: &TensorProto) -> Data {
    match elem {
        Elem::F32 => Data::Real(tensor.float_data.iter().map(|&x| f64::from(x)).collect()),
        Elem::F64 => Data::Real(tensor.double_data.clone()),
        Elem::F16 => Data::Real(tensor.int32_data.iter().map(|&x| half::f16::from_bits(x as u16).to_f64()).collect()),
        Elem::BF16 => Data::Real(tensor.int32_data.iter().map(|&x| half::bf16::from_bits(x as u16).to_f64()).collect()),
        Elem::I64 => Data::Whole(tensor.int64_data.clone()),
        Elem::U32 | Elem::U64 => Data::Whole(tensor.uint64_data.iter().map(|&x| x as i64).collect()),
        Elem::Bool => Data::Whole(tensor.int32_data.iter().map(|&x| i64::from(x != 0)).collect()),
        _ => Data::Whole(tensor.int32_data.iter().map(|&x| i64::from(x)).collect()),
    }
}

/// Where the bytes of a tensor are in a file beside the model.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    offset: u64,
    length: usize,
}

impl Place {
    fn open(&self) -> io::Result<File> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file)
    }

    fn trouble(&self, error: io::Error) -> Trouble {
        Trouble::Op(Error::io(&self.path, "read", error))
    }

    fn read(&self) -> Result<Vec<u8>, Trouble> {
        let mut bytes = vec![0; self.length];
        self.open().and_then(|mut file| file.read_exact(&mut bytes)).map_err(|error| self.trouble(error))?;
        Ok(bytes)
    }

    /// Hands the bytes on, [`WINDOW`] at a time, with the number of the first.
    fn windows(&self, mut take: impl FnMut(usize, &[u8]) -> Result<(), Trouble>) -> Result<(), Trouble> {
        let mut file = self.open().map_err(|error| self.trouble(error))?;
        let mut window = vec![0; WINDOW.min(self.length)];
        for first in (0..self.length).step_by(WINDOW) {
            let bytes = &mut window[..WINDOW.min(self.length - first)];
            file.read_exact(bytes).map_err(|error| self.trouble(error))?;
            take(first, bytes)?;
        }
        Ok(())
    }
}

/// The place of a tensor's bytes, which are there.
fn place(tensor: &TensorProto, folder: Option<&Path>, wanted: usize) -> Result<Place, Trouble> {
    let name = &tensor.name;
    let entry =
        |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
    let (Some(folder), Some(location)) = (folder, entry("location")) else {
        return wrong(format!("tensor `{name}` has its data in another file, which is not known here"));
    };
    let number = |key: &str| match entry(key).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => wrong(format!("the {key} of the data of tensor `{name}` is no number")),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
    if length.is_some_and(|length| length != wanted as u64) {
        return wrong(format!("tensor `{name}` takes {wanted} bytes, its data have another length"));
    }
    let relative = Path::new(location);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) || location.contains('\\') {
        return wrong(format!("tensor `{name}` has its data in `{location}`, outside of the model's folder"));
    }
    let mut path = folder.to_path_buf();
    for part in relative.components() {
        path.push(part);
        let kind = std::fs::symlink_metadata(&path);
        if kind.is_ok_and(|kind| kind.file_type().is_symlink()) {
            return wrong(format!("tensor `{name}` has its data in `{location}`, which is a link"));
        }
    }
    let size = match std::fs::metadata(&path) {
        Ok(file) => file.len(),
        Err(error) => return Err(Trouble::Op(Error::io(&path, "read", error))),
    };
    if offset.checked_add(wanted as u64).is_none_or(|end| end > size) {
        return wrong(format!("the data of tensor `{name}` leave `{location}`, which has {size} bytes"));
    }
    Ok(Place { path, offset, length: wanted })
}
