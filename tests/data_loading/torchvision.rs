//! Changes of images and sound against values of torchvision and PyTorch (`scripts/torchvision_values.py`).

use kiln::data::{Affine, HostArray, Image, mel, spectrogram};
use safetensors::SafeTensors;

fn values(name: &str) -> HostArray<f32> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torchvision.safetensors");
    kiln::data::safetensors(path, name).unwrap()
}

fn image(name: &str) -> Image {
    let HostArray { shape, values } = values(name);
    Image::new(shape[0], shape[1], shape[2], values).unwrap()
}

/// The image four times in each direction.
fn tiled(image: &Image) -> Image {
    let (height, width) = (4 * image.height, 4 * image.width);
    let at = |place: usize| {
        let (channel, y, x) = (place / width / height, place / width % height, place % width);
        image.values[(channel * image.height + y % image.height) * image.width + x % image.width]
    };
    Image::new(image.channels, height, width, (0..image.channels * height * width).map(at).collect()).unwrap()
}

#[test]
fn changes_of_images_are_torchvision_s() {
    let (small, large) = (image("image"), image("large"));
    let corners = [[0.0, 0.0], [13.0, 0.0], [13.0, 10.0], [0.0, 10.0]];
    let moved = [[1.0, 2.0], [12.0, 1.0], [11.0, 9.0], [2.0, 10.0]];
    let map = Affine { degrees: 20.0, translate: [2.0, -1.0], scale: 1.2, shear: [10.0, 5.0] };
    let paler = Image { values: small.values.iter().map(|value| 0.2 + 0.5 * value).collect(), ..small.clone() };
    let own = || small.clone();
    let changed = [
        ("resize_larger", small.resize([19, 23]).unwrap()),
        ("resize_smaller", large.resize([7, 11]).unwrap()),
        ("resize_mixed", large.resize([41, 5]).unwrap()),
        ("resize_shorter", large.resize_shorter(13).unwrap()),
        ("centre_crop", small.centre_crop([6, 9]).unwrap()),
        ("flip_horizontal", own().flip_horizontal()),
        ("flip_vertical", own().flip_vertical()),
        ("pad", small.pad(2, 0.25)),
        ("rotate", small.rotate(30.0, 0.0)),
        ("affine", small.affine(&map, 0.0)),
        ("perspective", small.perspective(corners, moved, 0.0).unwrap()),
        ("grey", own().grey()),
        ("one_channel", own().one_channel()),
        ("brightness", own().brightness(1.4)),
        ("contrast", own().contrast(1.5)),
        ("saturation", own().saturation(0.4)),
        ("hue", own().hue(0.2)),
        ("hue_back", own().hue(-0.4)),
        ("gamma", own().gamma(1.7)),
        ("invert", own().invert()),
        ("solarize", own().solarize(0.6)),
        ("posterize", own().posterize(3)),
        ("autocontrast", paler.autocontrast()),
        ("equalize", tiled(&large).equalize()),
        ("sharpness", own().sharpness(1.8)),
        ("blur", small.blur(5, 1.3).unwrap()),
        ("normalise", own().normalise(&[0.4, 0.5, 0.6], &[0.2, 0.3, 0.4]).unwrap()),
        ("erase", own().erase(2, 3, [4, 5], 0.5).unwrap()),
    ];
    let mut wrong = vec![];
    for (name, image) in &changed {
        let wanted = values(name);
        if wanted.shape != [image.channels, image.height, image.width] {
            wrong.push(format!("{name}: {}x{}, not {:?}", image.height, image.width, wanted.shape));
            continue;
        }
        let apart = image.values.iter().zip(&wanted.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Positions are f32 there: a pixel's error times the distance of the corner.
        if apart > 2e-5 {
            wrong.push(format!("{name}: {apart:e} apart"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let bytes = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/torchvision.safetensors")).unwrap();
    // The two images, sound and its two pictures are in the file, too.
    assert_eq!(SafeTensors::deserialize(&bytes).unwrap().len(), changed.len() + 5);
}

#[test]
fn spectrograms_and_mel_bands_are_pytorch_s() {
    let power = spectrogram(&values("sound").values, 256, 100).unwrap();
    for (own, name) in [(&power, "spectrogram"), (&mel(&power, 8000, 10).unwrap(), "mel")] {
        let wanted = values(name);
        assert_eq!(own.shape, wanted.shape, "{name}");
        let top = wanted.values.iter().copied().fold(0.0, f32::max);
        let apart = own.values.iter().zip(&wanted.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5 * top, "{name}: {apart} of {top}");
    }
    assert!(spectrogram(&[0.0; 10], 256, 100).is_err() && spectrogram(&[0.0; 1000], 100, 10).is_err());
}
