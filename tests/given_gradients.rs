//! Updates with gradients that the user brings: `Optimizer::step_with`.

mod common;

use kiln::Array;
use kiln::prelude::*;

/// A parameter that is long enough for its gradient to be read where it is, and one that is not.
struct Pair {
    params: ParamStore,
    long: Param,
    short: Param,
}

const LONG: usize = 40_004;

impl Pair {
    fn new(device: &Device) -> Pair {
        let params = ParamStore::new(device, 7);
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let short = params.root().param("short", &[37], init);
        let long = params.root().param("long", &[LONG / 4, 4], init);
        Pair { params, long, short }
    }

    /// Both as they are.
    fn values(&self) -> Vec<f64> {
        [self.long.values().unwrap(), self.short.values().unwrap()].concat()
    }

    fn gradients(&self, long: Tensor, short: Tensor) -> Vec<(Param, Tensor)> {
        vec![(self.long.clone(), long), (self.short.clone(), short)]
    }
}

/// A value that a run has stored on the device.
fn stored(device: &Device, array: &Array) -> Tensor {
    let tensor = device.array(array) * 1.0;
    device.eval(&[&tensor]).unwrap();
    tensor
}

fn close(got: &[f64], want: &[f64]) {
    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs() / w.abs().max(1.0)).fold(0.0, f64::max);
    assert!(got.len() == want.len() && worst < 2e-6, "{worst:e}");
}

/// Three clipped steps of AdamW with stored gradients.
fn three_steps(device: &Device, hardware: bool) -> (Vec<f64>, f64) {
    let pair = Pair::new(device);
    let config = AdamWConfig { lr: 0.1, ..AdamWConfig::default() };
    let mut adamw = AdamW::new(&pair.params, config).clip_norm(30.0);
    if hardware {
        adamw.as_on_hardware();
    }
    for step in 0..3 {
        let [long, short] = [(&[LONG / 4, 4][..], 2 * step), (&[37], 2 * step + 1)]
            .map(|(shape, seed)| stored(device, &common::normals(shape, seed)));
        adamw.step_with(pair.gradients(long, short)).unwrap();
    }
    (pair.values(), adamw.gradient_norm().unwrap())
}

#[test]
fn stored_gradients_update_as_on_the_reference() {
    let want = three_steps(&Device::cpu(), false);
    for hardware in [false, true] {
        let got = three_steps(&common::gpu(), hardware);
        close(&got.0, &want.0);
        assert!((got.1 / want.1 - 1.0).abs() < 1e-5, "{} {}", got.1, want.1);
    }
}

#[test]
fn a_long_stored_gradient_is_read_where_it_is() {
    // Of its own: what other tests plan is not counted.
    let device = Device::best().unwrap();
    let pair = Pair::new(&device);
    let mut adamw = AdamW::new(&pair.params, AdamWConfig::default());
    let [long, short] =
        [(&[LONG / 4, 4][..], 1), (&[37], 2)].map(|(shape, seed)| stored(&device, &common::normals(shape, seed)));
    adamw.step_with(pair.gradients(long.clone(), short.clone())).unwrap();
    let plan = device.statistics().last_plan;
    // The short one is copied into the arena; norm and update of both, and the status.
    assert_eq!(plan.matches("copy").count(), 1, "{plan}");
    assert_eq!(device.statistics().dispatches, 6, "{plan}");
    let made = device.statistics().plans_made;
    adamw.step_with(pair.gradients(long, short)).unwrap();
    assert_eq!(device.statistics().plans_made, made);
}

#[test]
fn a_given_gradient_that_is_not_finite_skips_the_whole_update() {
    for hardware in [false, true] {
        // Devices of its own: the next call on a device reports what was found.
        let device = Device::best().unwrap();
        for in_long in [false, true] {
            let pair = Pair::new(&device);
            let mut adamw = AdamW::new(&pair.params, AdamWConfig::default());
            if hardware {
                adamw.as_on_hardware();
            }
            let before = pair.values();
            let [mut long, mut short] = [common::normals(&[LONG / 4, 4], 1), common::normals(&[37], 2)];
            let bad = if in_long { &mut long.data[LONG - 1] } else { &mut short.data[36] };
            *bad = f64::NAN;
            adamw.step_with(pair.gradients(stored(&device, &long), stored(&device, &short))).unwrap();
            assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 1, .. })));
            assert_eq!(pair.values(), before);
        }
    }
}

#[test]
fn gradients_changed_by_the_user_are_computed_with_the_update() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 0);
        let [a, b] = ["a", "b"].map(|name| params.root().param(name, &[3], Init::Zeros));
        a.set(&[1.0, -2.0, 3.0]).unwrap();
        let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() });
        let (x, y) = (a.tensor(), b.tensor());
        let mut gradients = (&x * &x + &y).sum_all().gradients(&[&x, &y]).unwrap();
        let kept = gradients[0].clamp(-4.0, 4.0);
        sgd.step_with(vec![(b.clone(), gradients.remove(1)), (a.clone(), kept.clone())]).unwrap();
        assert_eq!(a.values().unwrap(), [0.0, 0.0, 1.0]);
        assert_eq!(b.values().unwrap(), [-0.5; 3]);
        // What is still held has the value from before the update.
        assert_eq!(kept.to_vec::<f32>().unwrap(), [2.0, -4.0, 4.0]);
        assert_eq!(gradients[0].to_vec::<f32>().unwrap(), [2.0, -4.0, 6.0]);
    }
}

#[test]
fn parameters_without_a_gradient_and_frozen_ones_are_left_alone() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 0);
        let [a, b, c] = ["a", "b", "c"].map(|name| params.root().param(name, &[3], Init::Ones));
        let mut adamw = AdamW::new(&params, AdamWConfig { lr: 0.1, ..Default::default() });
        c.freeze();
        adamw.step_with(vec![(a.clone(), device.ones(&[3])), (c.clone(), device.ones(&[3]))]).unwrap();
        assert!(a.values().unwrap()[2] < 1.0);
        assert_eq!([b.values().unwrap(), c.values().unwrap()], [[1.0; 3]; 2]);
        assert_eq!(adamw.state().unwrap().updates, [("a".to_string(), 1)]);
    }
}

#[test]
fn given_gradients_are_added_to_gathered_ones() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 0);
        let [a, b] = ["a", "b"].map(|name| params.root().param(name, &[3], Init::Zeros));
        let mut sgd = Sgd::new(&params, SgdConfig { lr: 1.0, ..Default::default() });
        sgd.accumulate(&(a.tensor() * 2.0 + b.tensor()).sum_all()).unwrap();
        sgd.step_with(vec![(a.clone(), device.ones(&[3]))]).unwrap();
        assert_eq!([a.values().unwrap(), b.values().unwrap()], [[-3.0; 3], [-1.0; 3]]);
    }
}

#[test]
fn gradients_that_do_not_fit_are_refused_and_change_nothing() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 0);
    let a = params.root().param("a", &[3], Init::Ones);
    let foreign = ParamStore::new(&device, 0).root().param("a", &[3], Init::Ones);
    let mut sgd = Sgd::new(&params, SgdConfig::default());
    let ones = || device.ones(&[3]);
    let mut refused = |gradients| sgd.step_with(gradients).unwrap_err();
    assert!(matches!(refused(vec![(foreign, ones())]), Error::Value { op: "step_with", .. }));
    assert!(matches!(refused(vec![(a.clone(), ones()), (a.clone(), ones())]), Error::Value { .. }));
    assert!(matches!(refused(vec![(a.clone(), device.ones(&[1, 3]))]), Error::Shape { .. }));
    assert!(matches!(refused(vec![(a.clone(), ones().cast(DType::F16))]), Error::DType { .. }));
    let broken = device.ones(&[3]) + device.ones(&[2]);
    assert!(matches!(refused(vec![(a.clone(), broken)]), Error::Shape { op: "add", .. }));
    assert_eq!(a.values().unwrap(), [1.0; 3]);
}
