//! A folder of images whose folders are classes.

use std::fs::DirEntry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::{Dataset, beyond};
use super::image::Image;
use super::image_reader::ImageReader;
use super::images::{Images, Splits};
use super::split::{Split, split};
use crate::error::{Error, Result};

/// PNG and JPEG files, of any size: a folder a class, as many folders within it as you like.
///
/// Classes are numbered in the order of the bytes of their names; so are the files of each. Hidden files and folders, files
/// beside the folders of classes, and files with another extension than png, jpg and jpeg are left out and counted. In
/// memory are paths alone; clones share them. An item is an [`Image`] and its class:
///
/// ```no_run
/// use kiln::data::transforms::{compose, flip_horizontal, random_resized_crop};
/// use kiln::data::{DataLoader, ImageFolder};
///
/// let augment = compose([random_resized_crop([64, 64], [0.3, 1.0], [0.75, 1.33]), flip_horizontal(0.5)]);
/// let loader = DataLoader::new(ImageFolder::open("pets")?, 32)
///     .shuffle(42)
///     .try_map(move |(image, class), random| Ok((augment.apply(image, random)?, class)))
///     .workers(4);
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// A file that cannot be read ends the epoch with its path;
/// [`DataLoader::skip_failed`](super::DataLoader::skip_failed) leaves it out. PyTorch: `torchvision.datasets.ImageFolder`.
#[derive(Debug, Clone)]
pub struct ImageFolder {
    classes: Arc<[String]>,
    files: Arc<[(Box<Path>, u32)]>,
    left_out: usize,
    reader: ImageReader,
}

impl ImageFolder {
    /// The images below `dir`. No file is opened yet.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read; [`Error::Data`] where there is no class, a class has no image, or
    /// links lead in a circle.
    pub fn open(dir: impl AsRef<Path>) -> Result<ImageFolder> {
        let dir = dir.as_ref();
        let (mut classes, mut found) = (vec![], Found::default());
        for (path, kind) in entries(dir)? {
            let Some(name) = path.file_name().filter(|_| kind == Kind::Folder) else {
                found.left_out += 1;
                continue;
            };
            let before = found.files.len();
            found.walk(&path, classes.len() as u32, &mut vec![real(dir)?])?;
            if found.files.len() == before {
                let what = format!("{}: there is no PNG or JPEG file in this class", path.display());
                return Err(Error::Data { what, next: "remove the folder, or put images into it" });
            }
            classes.push(name.to_string_lossy().into_owned());
        }
        if classes.is_empty() {
            let what = format!("{}: there is no folder in it, and so no class", dir.display());
            return Err(Error::Data { what, next: "put the images of each class into a folder of their own" });
        }
        let Found { files, left_out } = found;
        Ok(ImageFolder { classes: classes.into(), files: files.into(), left_out, reader: ImageReader::new() })
    }

    /// How files become images (default: [`ImageReader::new`]).
    #[must_use]
    pub fn reader(mut self, reader: ImageReader) -> Self {
        self.reader = reader;
        self
    }

    /// All images in memory, resized to `height` and `width`: the first part has about the share `train` of each class, the
    /// second the rest. The seed says which; the same one gives the same parts.
    ///
    /// # Errors
    /// What reading a file met, and as [`split`].
    #[track_caller]
    pub fn splits(self, size: [usize; 2], train: f64, seed: u64) -> Result<Splits> {
        let (classes, labels) = (self.classes.len(), self.labels());
        let reader = self.reader.resize(size);
        let parts = split(self.reader(reader), Split::Stratified(&labels), &[train, 1.0 - train], seed)?;
        let gathered = parts.iter().map(|part| Images::gather("folder", part, classes)).collect::<Result<Vec<_>>>()?;
        match <[Images; 2]>::try_from(gathered) {
            Ok([train, test]) => Ok(Splits { train, test }),
            Err(_) => Err(Error::internal("two shares made another number of parts")),
        }
    }

    /// Names of the classes; the number of a class is its place.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of each image.
    pub fn labels(&self) -> Vec<u32> {
        self.files.iter().map(|(_, class)| *class).collect()
    }

    /// How many files and hidden folders were left out.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The file of each image.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.files.iter().map(|(path, _)| &**path)
    }
}

impl Dataset for ImageFolder {
    type Item = (Image, u32);

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<(Image, u32)> {
        let (path, class) = self.files.get(index).ok_or_else(|| beyond(index, self.files.len()))?;
        Ok((self.reader.read(path)?, *class))
    }

    fn name(&self, index: usize) -> Option<String> {
        self.files.get(index).map(|(path, _)| path.display().to_string())
    }
}

/// What has been found below a folder.
#[derive(Default)]
struct Found {
    files: Vec<(Box<Path>, u32)>,
    left_out: usize,
}

impl Found {
    /// All images below `dir`, which is in the folders `above`.
    fn walk(&mut self, dir: &Path, class: u32, above: &mut Vec<PathBuf>) -> Result<()> {
        let own = real(dir)?;
        if above.contains(&own) {
            let what = format!("{}: this link leads back to a folder that it is in", dir.display());
            return Err(Error::Data { what, next: "remove the link" });
        }
        above.push(own);
        for (path, kind) in entries(dir)? {
            match kind {
                Kind::Folder => self.walk(&path, class, above)?,
                Kind::Image => self.files.push((path.into(), class)),
                Kind::Other => self.left_out += 1,
            }
        }
        above.pop();
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Folder,
    Image,
    /// Hidden, or neither of the two.
    Other,
}

fn kind(entry: &DirEntry, path: &Path) -> std::io::Result<Kind> {
    let file = entry.file_type()?;
    // A link that leads nowhere is a file that cannot be read, and not a folder.
    let is_folder = file.is_dir() || file.is_symlink() && path.is_dir();
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    Ok(if entry.file_name().as_encoded_bytes().starts_with(b".") {
        Kind::Other
    } else if is_folder {
        Kind::Folder
    } else if extension.is_some_and(|own| ["png", "jpg", "jpeg"].iter().any(|known| own == *known)) {
        Kind::Image
    } else {
        Kind::Other
    })
}

/// What is in a folder, in the order of the bytes of the names.
fn entries(dir: &Path) -> Result<Vec<(PathBuf, Kind)>> {
    let io = |error| Error::io(dir, "read", error);
    let entry = |entry: std::io::Result<DirEntry>| {
        let entry = entry?;
        let path = entry.path();
        let kind = kind(&entry, &path)?;
        Ok((path, kind))
    };
    let mut found: Vec<(PathBuf, Kind)> =
        std::fs::read_dir(dir).map_err(io)?.map(entry).collect::<Result<_, _>>().map_err(io)?;
    found.sort_by(|(a, _), (b, _)| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(found)
}

/// A path without links.
fn real(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|error| Error::io(path, "read", error))
}
