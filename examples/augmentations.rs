//! Draws a sheet of what transforms make of an image, which itself is on the left: first what is fixed, eight in a row, then
//! what is random, eight draws in a row. The rows are named on the terminal.
//!
//! `cargo run --release --features images --example augmentations -- --image photo.jpg`. Transforms run on the CPU: whatever
//! `--device` says makes no difference.

#[path = "common/program.rs"]
mod program;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kiln::data::transforms::{self, Transform};
use kiln::data::{Affine, Image, ImageReader};
use kiln::rng::Philox;

/// Pixels of a picture's side, and between two of them.
const SIDE: usize = 96;
const GAP: usize = 4;
/// Pictures of a row.
const COLUMNS: usize = 9;

/// Draws a sheet of what transforms make of an image.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    /// A PNG or JPEG file to augment, instead of a drawn scene.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

/// A row: what is random comes eight times.
type Row = (&'static str, Vec<Transform>);

fn fixed() -> Vec<Row> {
    let own = |change: fn(Image) -> Image| Transform::new(move |image, _| Ok(change(image)));
    let map = Affine { degrees: 20.0, translate: [8.0, -8.0], scale: 0.8, shear: [15.0, 0.0] };
    let far = SIDE as f64 - 1.0;
    let from = [[0.0, 0.0], [far, 0.0], [far, far], [0.0, far]];
    let to = [[0.2 * far, 0.1 * far], [far, 0.0], [0.8 * far, far], [0.0, 0.8 * far]];
    vec![
        (
            "resize  resize_shorter  centre_crop  pad  flip_horizontal  flip_vertical  rotate  affine",
            vec![
                transforms::resize([48, 80]),
                transforms::resize_shorter(64),
                transforms::centre_crop([64, 64]),
                transforms::compose([transforms::resize([64, 64]), transforms::pad(16, 0.5)]),
                own(Image::flip_horizontal),
                own(Image::flip_vertical),
                own(|image| image.rotate(30.0, 0.5)),
                Transform::new(move |image, _| Ok(image.affine(&map, 0.5))),
            ],
        ),
        (
            "brightness  contrast  saturation  hue  gamma  invert  solarize  posterize",
            vec![
                own(|image| image.brightness(1.4)),
                own(|image| image.contrast(0.4)),
                own(|image| image.saturation(2.0)),
                own(|image| image.hue(0.3)),
                own(|image| image.gamma(2.0)),
                own(Image::invert),
                own(|image| image.solarize(0.5)),
                own(|image| image.posterize(2)),
            ],
        ),
        (
            "autocontrast  equalize  sharpness  blur  grey  erase  perspective  normalise",
            vec![
                own(|image| image.brightness(0.5).autocontrast()),
                own(Image::equalize),
                own(|image| image.sharpness(5.0)),
                transforms::blur(9, [2.0, 2.0]),
                own(Image::grey),
                Transform::new(|image, _| image.erase(20, 10, [40, 50], 0.5)),
                Transform::new(move |image, _| image.perspective(from, to, 0.5)),
                transforms::normalise(&[0.2; 3], &[0.5; 3]),
            ],
        ),
    ]
}

fn random() -> Vec<Row> {
    let rows = [
        ("random_crop", transforms::random_crop([64, 64])),
        ("random_resized_crop", transforms::random_resized_crop([SIDE, SIDE], [0.2, 1.0], [0.75, 4.0 / 3.0])),
        ("flip_horizontal and flip_vertical", {
            transforms::compose([transforms::flip_horizontal(0.5), transforms::flip_vertical(0.5)])
        }),
        ("random_rotation", transforms::random_rotation(45.0, 0.5)),
        ("random_affine", transforms::random_affine(20.0, [0.1, 0.1], [0.7, 1.3], 15.0, 0.5)),
        ("random_perspective", transforms::random_perspective(0.6, 0.5)),
        ("colour_jitter", transforms::colour_jitter(0.5, 0.5, 0.5, 0.2)),
        ("random_grey", transforms::random_grey(0.5)),
        ("blur", transforms::blur(9, [0.1, 3.0])),
        ("noise", transforms::noise(0.15)),
        ("random_erasing", transforms::random_erasing(0.9, [0.05, 0.3], 0.5)),
        ("auto_augment", transforms::auto_augment()),
        ("rand_augment", transforms::rand_augment(2, 9)),
        ("trivial_augment", transforms::trivial_augment()),
        ("aug_mix", transforms::aug_mix(3, 3, 1.0)),
    ];
    rows.into_iter().map(|(name, transform)| (name, vec![transform])).collect()
}

fn main() -> Result<()> {
    program::pipe::end_with_reader();
    let Args { common: args, image } = Args::parse();
    let image = match &image {
        Some(path) => ImageReader::new().read(path)?,
        None => scene()?,
    };
    let short = image.height.min(image.width);
    let image = image.centre_crop([short, short])?.resize([SIDE, SIDE])?;
    let rows: Vec<Row> = fixed().into_iter().chain(random()).take(args.pick(18, 6)).collect();
    let (pitch, white) = (SIDE + GAP, image::Rgb([255; 3]));
    let [width, height] = [COLUMNS, rows.len()].map(|count| (count * pitch + GAP) as u32);
    let mut sheet = image::RgbImage::from_pixel(width, height, white);
    for (row, (name, transforms)) in rows.iter().enumerate() {
        println!("row {:2}  {name}", row + 1);
        for column in 0..COLUMNS {
            let mut random = Philox::new(args.seed, (row * COLUMNS + column) as u64);
            let picture = match column.checked_sub(1) {
                None => image.clone(),
                Some(place) => transforms[place % transforms.len()].apply(image.clone(), &mut random)?,
            };
            for place in 0..picture.height * picture.width {
                let at = |channel: usize| picture.values[channel * picture.height * picture.width + place];
                let pixel = [0, 1, 2].map(|channel| (255.0 * at(channel)).round() as u8);
                let (x, y) = (place % picture.width, place / picture.width);
                let [x, y] = [x + GAP + column * pitch, y + GAP + row * pitch].map(|at| at as u32);
                sheet.put_pixel(x, y, image::Rgb(pixel));
            }
        }
    }
    let mut bytes = std::io::Cursor::new(vec![]);
    sheet.write_to(&mut bytes, image::ImageFormat::Png)?;
    args.keep("augmentations.png", bytes.into_inner())?;
    args.finish(serde_json::json!({ "rows": rows.len() }))
}

/// A house on a meadow under the sun: edges, plains, a gradient, and an above and a left.
fn scene() -> Result<Image> {
    const SIZE: usize = 192;
    let colour = |x: f32, y: f32| -> [f32; 3] {
        let inside = |left: f32, top: f32, right: f32, low: f32| x >= left && x < right && y >= top && y < low;
        if inside(0.52, 0.65, 0.62, 0.85) {
            [0.35, 0.2, 0.1]
        } else if inside(0.36, 0.58, 0.46, 0.68) {
            [0.7, 0.9, 1.0]
        } else if inside(0.3, 0.5, 0.7, 0.85) {
            [0.9, 0.8, 0.6]
        } else if y < 0.5 && y > 0.25 && (x - 0.5).abs() < (y - 0.25) {
            [0.75, 0.2, 0.15]
        } else if (x - 0.17).hypot(y - 0.17) < 0.1 {
            [1.0, 0.85, 0.2]
        } else if y > 0.75 {
            [0.2, 0.35 + 0.4 * y, 0.2]
        } else {
            [0.3 + 0.4 * y, 0.5 + 0.4 * y, 0.95]
        }
    };
    let at = |place: usize| colour((place % SIZE) as f32 / SIZE as f32, (place / SIZE) as f32 / SIZE as f32);
    let values = (0..3).flat_map(|channel| (0..SIZE * SIZE).map(move |place| at(place)[channel])).collect();
    Ok(Image::new(3, SIZE, SIZE, values)?)
}
