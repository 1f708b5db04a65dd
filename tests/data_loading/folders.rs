//! Folders of PNG and JPEG files, and what can be wrong with such files.

use std::fs;
use std::path::{Path, PathBuf};

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use kiln::data::{self, DataLoader, Dataset, Image, ImageFolder, ImageReader, Position, Split, transforms};
use kiln::rng::Philox;
use kiln::train::checkpoint::Checkpoint;

/// A folder of the test that is gone when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("kiln-folders-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn png(pixels: &[u8], [width, height]: [u32; 2], kind: ExtendedColorType) -> Vec<u8> {
    let mut bytes = vec![];
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, kind).unwrap();
    bytes
}

/// Pixels whose colour runs from left to right and from top to bottom.
fn colours([width, height]: [u32; 2], shade: u8) -> Vec<u8> {
    let pixel = |place: u32| [(place % width * 255 / width) as u8, (place / width * 255 / height) as u8, shade];
    (0..width * height).flat_map(pixel).collect()
}

fn jpeg(size: [u32; 2], shade: u8) -> Vec<u8> {
    let mut bytes = vec![];
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.write_image(&colours(size, shade), size[0], size[1], ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    let mut check = flate2::Crc::new();
    check.update(&body);
    [&(data.len() as u32).to_be_bytes()[..], &body, &check.sum().to_be_bytes()].concat()
}

/// A PNG file of eight bits a pixel in these chunks.
fn raw_png([width, height]: [u32; 2], colour: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, colour, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunks.concat(), chunk(b"IEND", &[])].concat()
}

fn decode(bytes: &[u8]) -> kiln::Result<Image> {
    ImageReader::new().decode(bytes)
}

fn stored(name: &str) -> Image {
    ImageReader::new().read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images").join(name)).unwrap()
}

#[test]
fn every_kind_of_pixel_becomes_red_green_and_blue() {
    let grey_alpha = png(&[51, 0, 255, 255], [2, 1], ExtendedColorType::La8);
    let image = decode(&grey_alpha).unwrap();
    assert_eq!((image.channels, image.values), (3, [0.2, 1.0].repeat(3)));
    let deep: Vec<u8> = [13_107u16, 65_535].iter().flat_map(|x| x.to_ne_bytes()).collect();
    assert_eq!(decode(&png(&deep, [2, 1], ExtendedColorType::L16)).unwrap().values, [0.2, 1.0].repeat(3));
    // Between two levels of eight bits.
    let deep: Vec<u8> = [100u16, 25_800, 65_535].iter().flat_map(|x| x.to_ne_bytes()).collect();
    let image = decode(&png(&deep, [1, 1], ExtendedColorType::Rgb16)).unwrap();
    assert_eq!(image.values, [100.0, 25_800.0, 65_535.0].map(|x: f32| x / 65_535.0));
    let mut packed = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default());
    std::io::Write::write_all(&mut packed, &[0, 1, 0]).unwrap();
    let palette = chunk(b"PLTE", &[255, 0, 0, 0, 51, 0]);
    let image = decode(&raw_png([2, 1], 3, &[palette, chunk(b"IDAT", &packed.finish().unwrap())])).unwrap();
    assert_eq!(image.values, [0.0, 1.0, 0.2, 0.0, 0.0, 0.0]);
    let see_through = png(&[255, 51, 0, 0], [1, 1], ExtendedColorType::Rgba8);
    assert_eq!(decode(&see_through).unwrap().values, [1.0, 0.2, 0.0]);

    let red = stored("cmyk.jpg");
    assert!(red.values[0] > 0.95 && red.values[128] < 0.05 && red.values[256] < 0.05, "{:?}", red.values[0]);
}

#[test]
fn grey_is_that_of_the_transforms() {
    let file = png(&colours([5, 4], 99), [5, 4], ExtendedColorType::Rgb8);
    assert_eq!(ImageReader::new().grey().decode(&file).unwrap(), decode(&file).unwrap().one_channel());
    let grey = ImageReader::new().grey().decode(&png(&[51], [1, 1], ExtendedColorType::L8)).unwrap();
    assert_eq!((grey.channels, grey.values), (1, vec![0.2]));
}

#[test]
fn an_image_is_turned_as_its_orientation_says() {
    let turned = stored("turned.jpg");
    // Black on the left in the file: on top once it is turned by a quarter, clockwise.
    assert_eq!([turned.height, turned.width], [16, 8]);
    assert!(turned.values[2 * 8 + 4] < 0.05 && turned.values[13 * 8 + 4] > 0.95);
}

#[test]
fn resizing_while_decoding_is_resizing_up_to_a_level() {
    let size = [61, 40];
    let mut random = Philox::new(3, 0);
    let noise: Vec<u8> = (0..61 * 40 * 3).map(|_| random.below(256) as u8).collect();
    let deep: Vec<u8> = noise.iter().flat_map(|&byte| [byte, byte]).collect();
    for file in [png(&noise, size, ExtendedColorType::Rgb8), png(&deep, size, ExtendedColorType::Rgb16)] {
        let whole = decode(&file).unwrap();
        for (reader, wanted) in [
            (ImageReader::new().resize([16, 24]), whole.resize([16, 24])),
            (ImageReader::new().resize([90, 33]), whole.resize([90, 33])),
            (ImageReader::new().resize_shorter(20), whole.resize_shorter(20)),
            (ImageReader::new().resize_shorter(20).grey(), whole.clone().one_channel().resize_shorter(20)),
        ] {
            let (own, wanted) = (reader.decode(&file).unwrap(), wanted.unwrap());
            assert_eq!([own.channels, own.height, own.width], [wanted.channels, wanted.height, wanted.width]);
            let apart = own.values.iter().zip(&wanted.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // Rounded along each axis.
            assert!(apart < 1.1 / 255.0, "{apart}");
        }
    }
    for size in [[0, 5], [1 << 20, 1 << 20]] {
        let error = ImageReader::new().resize(size).decode(&jpeg([8, 8], 0)).unwrap_err();
        assert!(error.to_string().contains("resized to"), "{error}");
    }
}

#[test]
fn files_that_are_no_images_are_errors_that_name_them() {
    let scratch = Scratch::new("bad");
    let photo = jpeg([40, 30], 9);
    scratch.file("a/0.png", &photo); // Its content counts.
    scratch.file("a/1.jpg", b"this is text, and was named an image");
    scratch.file("a/2.jpg", &photo[..30]);
    scratch.file("a/3.jpg", &photo[..photo.len() / 2]);
    let noise: Vec<u8> = (0..30_000u32).map(|n| (n * n % 251) as u8).collect();
    let picture = png(&noise, [100, 100], ExtendedColorType::Rgb8);
    scratch.file("a/4.png", &picture[..picture.len() / 2]);
    scratch.file("a/5.png", b"");
    scratch.file("a/6.png", &raw_png([50_000, 50_000], 2, &[chunk(b"IDAT", &vec![0; 10_000])]));
    std::os::unix::fs::symlink("nowhere", scratch.0.join("a/7.png")).unwrap();
    scratch.file("a/8.png", b"GIF89a and more");
    let mut flipped = picture.clone();
    flipped[picture.len() / 2] ^= 1;
    scratch.file("a/9.png", &flipped);
    let folder = ImageFolder::open(&scratch.0).unwrap();
    assert!(folder.get(0).is_ok());
    let wanted = [
        "1.jpg: at byte 0: its content is neither PNG nor JPEG; take another copy",
        "2.jpg: at byte 0: it is cut",
        "3.jpg: at byte 0: it is cut",
        "4.png: at byte 0: ",
        "5.png: at byte 0: it is empty",
        "6.png: at byte 0: it claims 50000x50000 pixels, and may have 1 to 67108864",
        "7.png: ",
        "8.png: at byte 0: its content is Gif, neither PNG nor JPEG",
        "9.png: at byte 0: ",
    ];
    for (index, text) in wanted.into_iter().enumerate() {
        let error = folder.get(index + 1).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
        assert!(error.starts_with(scratch.0.to_str().unwrap()) || error.contains("a/7.png"), "{error}");
    }
    assert!(folder.get(10).is_err());
    let small = folder.clone().reader(ImageReader::new().most_bytes(100));
    assert!(small.get(0).unwrap_err().to_string().contains("bytes, more than 100"));
    let small = folder.clone().reader(ImageReader::new().most_pixels(100));
    assert!(small.get(0).unwrap_err().to_string().contains("it claims 40x30 pixels, and may have 1 to 100"));

    let mut loader = DataLoader::new(folder, 10).skip_failed(true).workers(2);
    assert_eq!(loader.next().unwrap().unwrap().1.values, [0]);
    assert_eq!(loader.skipped(), 9);
}

/// Whatever stands in a file, there is an image or an error.
#[test]
fn damaged_files_never_panic() {
    let originals = [
        jpeg([33, 17], 5),
        png(&colours([33, 17], 5), [33, 17], ExtendedColorType::Rgb8),
        png(&[7; 64], [8, 8], ExtendedColorType::L8),
    ];
    let (mut random, mut refused) = (Philox::new(11, 0), 0);
    for turn in 0..3000 {
        let mut bytes = originals[turn % originals.len()].clone();
        for _ in 0..1 + random.below(4) {
            let place = random.below(bytes.len() as u32) as usize;
            match random.below(4) {
                0 => bytes.truncate(place.max(1)),
                1 => drop(bytes.remove(place)),
                _ => bytes[place] = random.next_u32() as u8,
            }
            if bytes.is_empty() {
                break;
            }
        }
        refused += usize::from(ImageReader::new().most_pixels(1 << 20).decode(&bytes).is_err());
    }
    assert!((1000..3000).contains(&refused), "{refused}");
}

#[test]
fn classes_are_folders_in_the_order_of_their_bytes() {
    let scratch = Scratch::new("classes");
    let image = jpeg([8, 8], 1);
    for name in ["b/1.jpg", "B/deep/2.JPEG", "b/.hidden.jpg", "b/notes.txt", "ä/3.jpg", ".git/4.jpg", "loose.jpg"] {
        scratch.file(name, &image);
    }
    let folder = ImageFolder::open(&scratch.0).unwrap();
    assert_eq!((folder.classes(), folder.labels()), (&["B", "b", "ä"].map(String::from)[..], vec![0, 1, 2]));
    assert_eq!((folder.left_out(), folder.name(0).unwrap().ends_with("B/deep/2.JPEG")), (4, true));
    fs::create_dir(scratch.0.join("empty")).unwrap();
    let error = ImageFolder::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("empty: there is no PNG or JPEG file in this class"), "{error}");
    assert!(ImageFolder::open(scratch.0.join("empty")).unwrap_err().to_string().contains("no class"));
    assert!(ImageFolder::open(scratch.0.join("missing")).is_err());
}

#[test]
fn links_are_followed_and_a_circle_of_them_is_an_error() {
    let scratch = Scratch::new("circle");
    scratch.file("a/1.jpg", &jpeg([8, 8], 1));
    std::os::unix::fs::symlink("a", scratch.0.join("b")).unwrap();
    assert_eq!(ImageFolder::open(&scratch.0).unwrap().labels(), [0, 1]);
    std::os::unix::fs::symlink("..", scratch.0.join("a/up")).unwrap();
    let error = ImageFolder::open(&scratch.0).unwrap_err().to_string();
    assert!(error.contains("a/up: this link leads back"), "{error}");
}

#[test]
fn a_class_of_one_image_cannot_be_in_two_parts() {
    let scratch = Scratch::new("one");
    for name in ["a/1.jpg", "a/2.jpg", "b/3.jpg"] {
        scratch.file(name, &jpeg([8, 8], 1));
    }
    let folder = ImageFolder::open(&scratch.0).unwrap();
    let error = data::split(folder.clone(), Split::Stratified(&folder.labels()), &[0.5, 0.5], 1).unwrap_err();
    assert!(error.to_string().starts_with("class 1: 1 items for 2 parts; leave the class out"), "{error}");
}

/// Decodes and augments.
fn loader(folder: &ImageFolder, workers: usize) -> DataLoader<(Image, u32)> {
    let augment = transforms::compose([
        transforms::random_resized_crop([16, 16], [0.3, 1.0], [0.75, 1.33]),
        transforms::flip_horizontal(0.5),
        transforms::colour_jitter(0.4, 0.4, 0.4, 0.1),
        transforms::trivial_augment(),
    ]);
    DataLoader::new(folder.clone(), 8)
        .shuffle(42)
        .try_map(move |(image, class), random| Ok((augment.apply(image, random)?, class)))
        .workers(workers)
}

type Bits = Vec<(Vec<u32>, Vec<u32>)>;

fn bits(loader: impl Iterator<Item = kiln::Result<(data::HostArray<f32>, data::HostArray<u32>)>>) -> Bits {
    let batches = loader.map(Result::unwrap);
    batches.map(|(x, y)| (x.values.iter().map(|x| x.to_bits()).collect(), y.values)).collect()
}

#[test]
fn augmented_files_are_the_same_bits_with_any_workers_and_resumed() {
    let scratch = Scratch::new("bits");
    for number in 0..37u32 {
        let class = ["cats", "dogs"][number as usize % 2];
        scratch.file(&format!("{class}/{number}.jpg"), &jpeg([40 + number, 61 - number], number as u8));
    }
    let folder = ImageFolder::open(&scratch.0).unwrap();
    let mut alone = loader(&folder, 0);
    let mut epochs = vec![bits(alone.by_ref()), bits(alone.by_ref().take(3))];
    let path = scratch.0.join("position.safetensors");
    Checkpoint::parts().part("data", &alone).save(&path).unwrap();
    let rest = bits(alone.by_ref());
    assert_eq!(alone.position(), Position { epoch: 2, batch: 0 });
    epochs[1].extend(rest.clone());
    assert_ne!(epochs[0], epochs[1]);
    for workers in [0, 1, 2, 7] {
        let mut other = loader(&folder, workers);
        assert!([bits(other.by_ref()), bits(other.by_ref())][..] == epochs, "{workers} workers");
        let mut resumed = loader(&folder, workers);
        Checkpoint::open(&path).unwrap().load().part("data", &mut resumed).finish().unwrap();
        assert!(bits(resumed.by_ref()) == rest, "resumed with {workers} workers");
    }
}
