//! Weights scaled by a batch.

use kiln::params::{LsuvConfig, lsuv};
use kiln::prelude::*;

use super::common;

/// Twelve layers, their weights, and functions that run up to each.
struct Deep {
    store: ParamStore,
    layers: Vec<Linear>,
    x: Tensor,
}

impl Deep {
    fn new(device: &Device) -> Deep {
        let store = ParamStore::new(device, 3);
        let layers = (0..12).map(|i| Linear::new(&store.root().child(i), 32, 32)).collect();
        Deep { layers, x: device.normal(&[128, 32], 0.0, 5.0, 1), store }
    }

    fn output(&self, last: usize) -> Tensor {
        let mut x = self.x.clone();
        for layer in &self.layers[..last] {
            x = layer.forward(&x, Mode::Train).tanh();
        }
        self.layers[last].forward(&x, Mode::Train)
    }

    fn lsuv(&self, config: &LsuvConfig) -> Result<Vec<f64>> {
        let outputs: Vec<Box<dyn Fn() -> Tensor + '_>> = (0..self.layers.len())
            .map(|layer| Box::new(move || self.output(layer)) as Box<dyn Fn() -> Tensor + '_>)
            .collect();
        let layers: Vec<(&Param, &dyn Fn() -> Tensor)> = self
            .layers
            .iter()
            .zip(&outputs)
            .map(|(layer, output)| (&layer.weight, &**output as &dyn Fn() -> Tensor))
            .collect();
        lsuv(&layers, config)
    }

    fn variances(&self) -> Vec<f64> {
        (0..self.layers.len()).map(|layer| self.output(layer).var(&[0, 1], 0).item().unwrap()).collect()
    }
}

#[test]
fn every_layer_gets_unit_variance() {
    for device in [common::gpu(), Device::cpu()] {
        let deep = Deep::new(&device);
        let before = deep.variances();
        assert!(before[11] < 0.5, "{before:?}");
        let config = LsuvConfig { tolerance: 0.02, ..LsuvConfig::default() };
        let reached = deep.lsuv(&config).unwrap();
        let after = deep.variances();
        for (layer, (reached, after)) in reached.iter().zip(&after).enumerate() {
            assert!((after - 1.0).abs() <= 0.02 && (after - reached).abs() < 1e-4, "{layer}: {reached}, {after}");
        }
        // Orthogonal, up to the factor.
        let weight = deep.layers[5].weight.tensor();
        let product = weight.matmul(&weight.transpose(0, 1)).to_array().unwrap().data;
        let scale = product[0];
        for (i, x) in product.iter().enumerate() {
            let want = if i / 32 == i % 32 { scale } else { 0.0 };
            assert!((x - want).abs() < 1e-5 * scale, "{i}: {x}");
        }
        let mut sgd = Sgd::new(&deep.store, SgdConfig::default());
        sgd.step(&deep.output(11).square().mean_all()).unwrap();
    }
}

#[test]
fn scaling_may_start_from_what_is_there_and_stop_early() {
    let deep = Deep::new(&Device::cpu());
    let before = deep.layers[0].weight.values().unwrap();
    let untried = LsuvConfig { start: None, tries: 0, ..LsuvConfig::default() };
    assert_eq!(deep.lsuv(&untried).unwrap(), deep.variances());
    assert_eq!(deep.layers[0].weight.values().unwrap(), before);
    let config = LsuvConfig { start: None, variance: 4.0, ..LsuvConfig::default() };
    let reached = deep.lsuv(&config).unwrap();
    assert!(reached.iter().all(|variance| (variance / 4.0 - 1.0).abs() <= 0.1), "{reached:?}");
    let after = deep.layers[0].weight.values().unwrap();
    let factor = after[0] / before[0];
    assert!(after.iter().zip(&before).all(|(after, before)| (after / before / factor - 1.0).abs() < 1e-5));
}

#[test]
fn an_output_without_variance_is_an_error_that_names_the_layer() {
    let device = Device::cpu();
    let store = ParamStore::new(&device, 3);
    let layer = Linear::with(&store.root().child("layer"), 4, 3, LinearConfig { bias: false, init: Init::HE });
    let plain = LsuvConfig::default();
    let inputs = [
        device.zeros(&[5, 4]),
        device.full(&[5, 4], f64::NAN, DType::F32),
        device.full(&[5, 4], f64::INFINITY, DType::F32),
    ];
    for x in &inputs {
        let output = || layer.forward(x, Mode::Eval);
        let error = lsuv(&[(&layer.weight, &output)], &plain).unwrap_err();
        assert!(matches!(&error, Error::Value { op: "lsuv", what, .. } if what.contains("layer.weight")), "{error}");
    }
    let x = device.normal(&[5, 4], 0.0, 1.0, 1);
    let output = || layer.forward(&x, Mode::Eval);
    for config in [
        LsuvConfig { tolerance: 0.0, ..plain },
        LsuvConfig { tolerance: f64::NAN, ..plain },
        LsuvConfig { variance: f64::INFINITY, ..plain },
    ] {
        assert!(matches!(lsuv(&[(&layer.weight, &output)], &config), Err(Error::Value { op: "lsuv", .. })));
    }
    let before = layer.weight.values().unwrap();
    let bias = store.root().param("bias", &[3], Init::Zeros);
    let error = lsuv(&[(&layer.weight, &output), (&bias, &output)], &plain).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "lsuv", .. }), "{error}");
    assert_eq!(layer.weight.values().unwrap(), before);
    let wrong = || device.zeros(&[2]) + device.zeros(&[3]);
    assert!(matches!(lsuv(&[(&layer.weight, &wrong)], &plain), Err(Error::Shape { op: "add", .. })));
}
