//! What is random: the same from the same stream, within its bounds, and as often as it says.

use kiln::data::transforms::{self, Transform};
use kiln::data::{HostArray, Image, mask_frequency, mask_time};
use kiln::rng::Philox;
use kiln::train::mix;
use kiln::{Device, Tensor};

fn image() -> Image {
    let mut random = Philox::new(5, 0);
    Image::new(3, 30, 41, (0..3 * 30 * 41).map(|_| random.uniform() as f32).collect()).unwrap()
}

fn all() -> Vec<(&'static str, Transform)> {
    vec![
        ("random_crop", transforms::random_crop([20, 17])),
        ("random_resized_crop", transforms::random_resized_crop([16, 16], [0.08, 1.0], [0.75, 4.0 / 3.0])),
        ("flip_horizontal", transforms::flip_horizontal(0.5)),
        ("flip_vertical", transforms::flip_vertical(0.5)),
        ("random_rotation", transforms::random_rotation(30.0, 0.5)),
        ("random_affine", transforms::random_affine(20.0, [0.1, 0.1], [0.8, 1.2], 10.0, 0.0)),
        ("random_perspective", transforms::random_perspective(0.5, 0.0)),
        ("colour_jitter", transforms::colour_jitter(0.4, 0.4, 0.4, 0.1)),
        ("random_grey", transforms::random_grey(0.5)),
        ("blur", transforms::blur(5, [0.1, 2.0])),
        ("noise", transforms::noise(0.1)),
        ("random_erasing", transforms::random_erasing(0.5, [0.02, 0.33], 0.0)),
        ("auto_augment", transforms::auto_augment()),
        ("rand_augment", transforms::rand_augment(2, 9)),
        ("trivial_augment", transforms::trivial_augment()),
        ("aug_mix", transforms::aug_mix(3, 3, 1.0)),
    ]
}

#[test]
fn a_stream_says_all_and_another_stream_something_else() {
    for (name, transform) in all() {
        let of = |stream| transform.apply(image(), &mut Philox::new(1, stream)).unwrap();
        let results: Vec<Image> = (0..12).map(of).collect();
        assert_eq!(results[3], of(3), "{name}");
        assert!(results.iter().any(|other| *other != results[0]), "{name} never changes");
        for result in results {
            assert_eq!(result.values.len(), result.channels * result.height * result.width, "{name}");
            assert!(result.values.iter().all(|value| (-1e-6..=1.000_001).contains(value)), "{name} leaves [0, 1]");
        }
    }
}

#[test]
fn chance_is_as_frequent_as_it_says() {
    let marked = transforms::one_of([
        Transform::new(|image, _| Ok(image.brightness(0.0))),
        Transform::new(|image, _| Ok(image)),
    ]);
    let twice = transforms::compose([marked, Transform::new(|image, _| Ok(image.invert())).sometimes(0.25)]);
    let mut counts = [0; 4];
    for stream in 0..2000 {
        let white = Image::new(1, 1, 1, vec![0.75]).unwrap();
        let value = twice.apply(white, &mut Philox::new(3, stream)).unwrap().values[0];
        let kind = [0.75, 0.0, 0.25, 1.0].iter().position(|&known| known == value).unwrap();
        counts[kind] += 1;
    }
    // Three quarters of each half are left as they are; four standard deviations.
    for (count, wanted) in counts.into_iter().zip([750, 750, 250, 250]) {
        assert!(i32::abs(count - wanted) < 90, "{counts:?}");
    }
}

#[test]
fn what_does_not_fit_an_image_is_an_error() {
    let small = Image::new(1, 2, 3, vec![0.0; 6]).unwrap();
    let random = &mut Philox::new(0, 0);
    let error = transforms::random_crop([3, 3]).apply(small.clone(), random).unwrap_err();
    assert!(error.to_string().contains("a part of 3x3 at row 0, column 0 of an image of 2x3"), "{error}");
    assert!(small.resize([0, 1]).is_err() && small.blur(4, 1.0).is_err() && small.blur(5, 1.0).is_err());
    assert!(small.clone().normalise(&[0.0; 3], &[1.0; 3]).is_err() && small.crop(usize::MAX, 0, [2, 2]).is_err());
    let line = [[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0]];
    assert!(small.perspective(line, line, 0.0).is_err());
    assert!(Image::new(1, 2, 3, vec![0.0; 5]).is_err() && Image::new(1, 0, 3, vec![]).is_err());
}

#[test]
fn masks_cover_a_run_of_rows_or_frames() {
    let ones = || HostArray::new([6, 9], vec![1.0f32; 54]).unwrap();
    for stream in 0..20 {
        let frequency = mask_frequency(ones(), 3, 0.0, &mut Philox::new(2, stream));
        let rows: Vec<bool> = frequency.values.chunks(9).map(|row| row.iter().all(|&value| value == 0.0)).collect();
        let zeros = frequency.values.iter().filter(|&&value| value == 0.0).count();
        let masked = rows.iter().filter(|&&masked| masked).count();
        assert!(masked <= 3 && zeros == 9 * masked);
        let time = mask_time(ones(), 4, 0.0, &mut Philox::new(2, stream));
        assert!(time.values.chunks(9).all(|row| row == &time.values[..9]));
    }
}

fn sums(targets: &Tensor) -> Vec<f32> {
    targets.sum(1).to_vec().unwrap()
}

#[test]
fn mixed_images_have_the_shares_of_their_targets() {
    let device = Device::cpu();
    let labels = device.labels(&[0, 1, 2, 3]);
    let targets = labels.one_hot(5);
    // The value of an image is its class.
    let values: Vec<f32> = (0..4).flat_map(|class| vec![class as f32; 2 * 6 * 7]).collect();
    let images = device.tensor(&values, &[4, 2, 6, 7]);
    let classes = device.tensor(&[0.0f32, 1.0, 2.0, 3.0, 4.0], &[5, 1]);
    for stream in 0..8 {
        for mixed in [
            mix::mix_up(&images, &targets, 0.4, &mut Philox::new(9, stream)),
            mix::cut_mix(&images, &targets, 1.0, &mut Philox::new(9, stream)),
        ] {
            assert!(sums(&mixed.targets).iter().all(|sum| (sum - 1.0).abs() < 1e-6));
            let means: Vec<f32> = mixed.images.flatten(1).mean(1).to_vec().unwrap();
            let wanted: Vec<f32> = mixed.targets.matmul(&classes).to_vec().unwrap();
            assert!(means.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{means:?} {wanted:?}");
        }
    }
    let broken = mix::cut_mix(&device.zeros(&[4, 2]), &targets, 1.0, &mut Philox::new(9, 0));
    assert!(broken.images.to_vec::<f32>().is_err());
}
