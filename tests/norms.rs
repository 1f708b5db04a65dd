//! Normalising layers: names, running statistics, checkpoints, and how many kernels they take.

mod common;

use kiln::kernel::Capabilities;
use kiln::prelude::*;

struct Net {
    store: ParamStore,
    scale: Param,
    norm: BatchNorm2d,
    optimizer: Sgd,
}

impl Net {
    fn new(device: &Device) -> Net {
        let store = ParamStore::new(device, 7);
        let scale = store.root().param("scale", &[1], Init::Ones);
        // A parameter that gradients do not move keeps the batch as it is, and the statistics depend on it all the same.
        let norm = BatchNorm2d::new(&store.root().child("bn"), 3);
        let optimizer = Sgd::new(&store, SgdConfig { lr: 0.1, ..Default::default() });
        Net { store, scale, norm, optimizer }
    }

    fn step(&mut self, x: &Tensor) {
        let frozen = self.scale.tensor().detach();
        let loss = self.norm.forward(&(x * frozen), Mode::Train).relu().square().mean_all();
        // A read makes the forward pass run again in the step; statistics must move once all the same.
        loss.item().unwrap();
        self.optimizer.step(&loss).unwrap();
    }

    fn running(&self) -> [Vec<f64>; 2] {
        [&self.norm.running_mean, &self.norm.running_var].map(|state| state.get().to_array().unwrap().data)
    }
}

fn batch(device: &Device, seed: u64) -> Tensor {
    device.array(&common::normals(&[5, 3, 4, 2], seed)) * 2.0 + 1.0
}

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

#[test]
fn running_statistics_move_once_a_step_and_not_while_judging() {
    for device in devices() {
        let mut net = Net::new(&device);
        let (mut mean, mut variance) = (vec![0.0; 3], vec![1.0; 3]);
        for seed in 0..3 {
            let x = batch(&device, seed);
            net.step(&x);
            let data = x.to_array().unwrap().data;
            for c in 0..3 {
                let of: Vec<f64> = (0..120).filter(|i| i / 8 % 3 == c).map(|i| data[i]).collect();
                let m = of.iter().sum::<f64>() / 40.0;
                let v = of.iter().map(|x| (x - m).powi(2)).sum::<f64>() / 39.0;
                mean[c] += 0.1 * (m - mean[c]);
                variance[c] += 0.1 * (v - variance[c]);
            }
            net.norm.forward(&x, Mode::Eval).to_array().unwrap();
        }
        let [got_mean, got_variance] = net.running();
        let close = |got: &[f64], want: &[f64]| got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-5);
        assert!(close(&got_mean, &mean), "{got_mean:?} {mean:?}");
        assert!(close(&got_variance, &variance), "{got_variance:?} {variance:?}");
    }
}

#[test]
fn a_checkpoint_carries_running_statistics_under_pytorch_s_names() {
    for device in devices() {
        let mut net = Net::new(&device);
        net.step(&batch(&device, 1));
        let name = format!("kiln-norms-{}-{}.safetensors", std::process::id(), device.is_cpu());
        let path = std::env::temp_dir().join(name);
        net.store.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names = file.names();
        names.sort_unstable();
        assert_eq!(names, ["bn.bias", "bn.running_mean", "bn.running_var", "bn.weight", "scale"]);
        let other = Net::new(&device);
        other.store.load(&path).unwrap();
        // A file holds f32.
        assert_eq!(
            other.running(),
            net.running().map(|row| row.iter().map(|&x| f64::from(x as f32)).collect::<Vec<_>>())
        );
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn statistics_are_formed_once_for_the_result_and_the_running_ones() {
    let device = Device::cpu();
    let net = Net::new(&device);
    let y = net.norm.forward(&batch(&device, 1), Mode::Train);
    let roots = [&y, &net.norm.running_mean.get(), &net.norm.running_var.get()];
    let plan = device.plan_for(&roots, &Capabilities { software: true, ..Default::default() }, true).unwrap();
    let count = |name: &str| plan.dispatches.iter().filter(|dispatch| dispatch.name().starts_with(name)).count();
    assert_eq!(count("batch_norm_statistics"), 1, "{plan}");
}

#[test]
fn another_batch_size_compiles_no_kernel() {
    // Of its own: other tests make kernels too.
    let device = common::backend("vulkan");
    let params = ParamStore::new(&device, 1);
    let (layer, batch) =
        (LayerNorm::new(&params.root().child("a"), &[20]), BatchNorm1d::new(&params.root().child("b"), 8));
    let run = |rows: usize| {
        let x = device.array(&common::normals(&[rows, 20], 1)).variable();
        let y = layer.forward(&x, Mode::Train).relu().square().sum_all();
        let z = device.array(&common::normals(&[rows, 8, 4], 2)).variable();
        let loss = y + batch.forward(&z, Mode::Train).relu().square().sum_all();
        let gradients = loss.gradients(&[&x, &z]).unwrap();
        device.eval(&[&gradients[0], &gradients[1]]).unwrap();
    };
    run(64);
    let pipelines = device.objects_made()[2];
    run(37);
    assert_eq!(device.objects_made()[2], pipelines);
}

#[test]
fn batches_that_no_step_follows_do_not_pile_up() {
    let peak = |batches: u64| {
        let device = common::backend("vulkan");
        let norm = BatchNorm2d::new(&ParamStore::new(&device, 7).root().child("bn"), 3);
        for seed in 0..batches {
            let x = device.array(&common::normals(&[20, 3, 8, 5], seed));
            norm.forward(&x, Mode::Train).square().mean_all().item().unwrap();
        }
        (norm.running_mean.get().to_array().unwrap().data, device.memory().1)
    };
    let mut mean = vec![0.0; 3];
    for seed in 0..100 {
        let data = common::normals(&[20, 3, 8, 5], seed).data;
        for (c, mean) in mean.iter_mut().enumerate() {
            let sum: f64 = (0..2400).filter(|i| i / 40 % 3 == c).map(|i| data[i]).sum();
            *mean += 0.1 * (sum / 800.0 - *mean);
        }
    }
    let (got, bytes) = peak(100);
    assert!(got.iter().zip(&mean).all(|(g, w)| (g - w).abs() < 1e-5), "{got:?} {mean:?}");
    let twice = peak(200).1;
    assert!(twice < bytes + bytes / 10, "{bytes} and {twice}");
}
