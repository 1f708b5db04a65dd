//! Layers that are little more than a few ops: adapters, noise, drawn slopes, bounded embeddings.

use kiln::nn::{BatchNorm3d, GaussianNoise, Lora, LoraConfig, Rrelu};
use kiln::prelude::*;
use kiln::train::checkpoint::Load;

use super::common;

fn values(x: &Tensor) -> Vec<f64> {
    x.to_array().unwrap().data
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn an_adapter_trains_alone_is_saved_alone_and_can_be_merged() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let path = params.root().child("fc");
        let plain = Linear::new(&path, 6, 4);
        let config = LoraConfig { alpha: Some(4.0), dropout: 0.1 };
        let fc = Lora::with(&path, plain.clone(), 2, config);
        let (x, target) = (device.normal(&[9, 6], 0.0, 1.0, 1), device.normal(&[9, 4], 0.0, 1.0, 2));
        // To begin with nothing has changed.
        let before = values(&plain.forward(&x, Mode::Eval));
        assert_eq!(values(&fc.forward(&x, Mode::Eval)), before);
        let frozen = plain.weight.values().unwrap();
        let mut adamw = AdamW::new(&params, AdamWConfig { lr: 0.05, ..Default::default() });
        for _ in 0..5 {
            adamw.step(&fc.forward(&x, Mode::Train).mse_loss(&target)).unwrap();
        }
        assert_eq!(plain.weight.values().unwrap(), frozen);
        let adapted = values(&fc.forward(&x, Mode::Eval));
        assert!(worst(&adapted, &before) > 0.01);

        let file = std::env::temp_dir().join(format!("kiln-lora-{}.safetensors", std::process::id()));
        params.save_where(&file, Lora::is_adapter).unwrap();
        let other = ParamStore::new(&device, 1);
        let path = other.root().child("fc");
        let again = Lora::with(&path, Linear::new(&path, 6, 4), 2, config);
        let loaded = other.load_with(&file, &Load { strict: false, ..Load::default() }).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!((loaded.loaded.len(), loaded.missing.len()), (2, 2));
        // The reference has more digits than a file.
        assert!(worst(&values(&again.forward(&x, Mode::Eval)), &adapted) < 1e-6);

        fc.merge().unwrap();
        for merged in [plain.forward(&x, Mode::Eval), fc.forward(&x, Mode::Eval)] {
            let worst = worst(&values(&merged), &adapted);
            assert!(worst < 1e-5, "{worst:e}");
        }
    }
}

#[test]
fn an_adapter_has_the_factor_and_the_gradients_of_the_paper() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 1);
    let path = params.root();
    let fc = Lora::with(&path, Linear::new(&path, 3, 2), 4, LoraConfig { alpha: Some(8.0), dropout: 0.0 });
    fc.up.set(&(0..8).map(f64::from).collect::<Vec<_>>()).unwrap();
    let x = device.normal(&[5, 3], 0.0, 1.0, 1);
    let weight = fc.base.weight.tensor() + fc.up.tensor().matmul(&fc.down.tensor()) * 2.0;
    let want = x.matmul(&weight.transpose(0, 1)) + fc.base.bias.as_ref().unwrap().tensor();
    assert!(worst(&values(&fc.forward(&x, Mode::Train)), &values(&want)) < 1e-6);
    let of = |y: &Tensor| {
        let gradients = y.square().sum_all().gradients(&[&fc.down.tensor(), &fc.up.tensor()]).unwrap();
        gradients.iter().flat_map(values).collect::<Vec<_>>()
    };
    assert!(worst(&of(&fc.forward(&x, Mode::Train)), &of(&want)) < 1e-4);
    let none = Lora::new(&path.child("none"), Linear::new(&path.child("none"), 3, 2), 0);
    assert!(matches!(none.forward(&x, Mode::Eval).shape(), Err(Error::Shape { .. })));
}

#[test]
fn noise_is_added_while_training_alone_and_has_its_deviation() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let noise = GaussianNoise::new(&params.root(), 0.5);
        let x = device.full(&[100, 100], 3.0, DType::F32);
        assert!(values(&noise.forward(&x, Mode::Eval)).iter().all(|&x| x == 3.0));
        let [a, b] = [0, 1].map(|_| values(&noise.forward(&x, Mode::Train)));
        assert_ne!(a, b);
        let mean = a.iter().sum::<f64>() / 1e4;
        let deviation = (a.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e4).sqrt();
        // Five standard errors.
        assert!((mean - 3.0).abs() < 0.025 && (deviation - 0.5).abs() < 0.018, "{mean} {deviation}");
        let bad = GaussianNoise::new(&params.root(), -1.0).forward(&x, Mode::Train);
        assert!(matches!(bad.shape(), Err(Error::Value { .. })));
    }
}

#[test]
fn slopes_are_drawn_between_the_bounds_and_their_mean_serves_afterwards() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let rrelu = Rrelu::with(&params.root(), 0.2, 0.4);
        let x = device.tensor(&[-1f32, 2.0], &[1, 2]).expand(&[500, 2]);
        let y = values(&rrelu.forward(&x, Mode::Train));
        let slopes: Vec<f64> = y.iter().step_by(2).map(|y| -y).collect();
        assert!(slopes.iter().all(|slope| (0.2 - 1e-6..0.4 + 1e-6).contains(slope)));
        let (least, most) = slopes.iter().fold((1f64, 0f64), |(a, b), &x| (a.min(x), b.max(x)));
        assert!(least < 0.21 && most > 0.39 && y.iter().skip(1).step_by(2).all(|&y| y == 2.0));
        let y = values(&rrelu.forward(&x, Mode::Eval));
        assert!((y[0] + 0.3).abs() < 1e-6 && y[1] == 2.0);
    }
}

/// PyTorch's values of the forward pass: rows longer than the bound are scaled to it, those that are not stay.
#[test]
fn an_embedding_gives_no_vector_longer_than_its_bound() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let table = Embedding::new(&params.root(), 3, 2).max_norm(2.0);
        table.weight.set(&[3.0, 4.0, 0.6, 0.8, 0.0, -2.5]).unwrap();
        let weight = table.weight.tensor();
        let y = table.forward(&device.tensor(&[0u32, 1, 2, 0], &[4]));
        assert!(worst(&values(&y), &[1.2, 1.6, 0.6, 0.8, 0.0, -2.0, 1.2, 1.6]) < 1e-6);
        let gradient = (&y * device.tensor(&[1f32, 2.0], &[2])).sum_all().gradients(&[&weight]).unwrap().remove(0);
        assert_eq!(values(&gradient), [2.0, 4.0, 1.0, 2.0, 1.0, 2.0]);
        let bad = table.clone().max_norm(0.0).forward(&device.tensor(&[0u32], &[1]));
        assert!(matches!(bad.shape(), Err(Error::Value { .. })));
    }
}

#[test]
fn volumes_are_normalised_a_channel_at_a_time() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 1);
    let norm = BatchNorm3d::new(&params.root(), 3);
    let y = norm.forward(&(device.normal(&[2, 3, 2, 3, 4], 5.0, 2.0, 1)), Mode::Train);
    let mean = values(&y.mean(&[0, 2, 3, 4]));
    assert!(mean.iter().all(|mean| mean.abs() < 1e-6), "{mean:?}");
}
