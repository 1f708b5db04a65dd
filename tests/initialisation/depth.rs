//! What initial values do to the variance of a signal on its way through 30 layers.

use kiln::init::{Fan, Nonlinearity};
use kiln::prelude::*;

use super::common;

const LAYERS: usize = 30;
const WIDTH: usize = 512;
const SAMPLES: usize = 2048;

/// Mean squares over samples and units: of normals with this deviation, and of what each of 30 layers makes of them,
/// y = W f(x) for the nonlinearity f. With weights around 0 they are variances over the weights.
///
/// One network would not do: its squares wander by 5 / WIDTH a layer (in variance, relative, for a ReLU), half of them by the
/// end. So each sample sees a network of its own: the signs of the columns of every matrix are drawn anew for it, which
/// leaves the weights as likely as before. They are applied to what the matrix is multiplied with. Their absolute values are
/// shared; by them the square at the end has a deviation of sqrt(2 LAYERS) / WIDTH = 1.5 %, by the samples one of
/// sqrt(5 LAYERS / WIDTH / SAMPLES) = 1.2 %. A limit of 5 % is 2.6 of both.
fn squares(init: Init, nonlinearity: fn(&Tensor) -> Tensor, deviation: f64) -> Vec<f64> {
    no_grad(|| {
        let device = common::gpu();
        let params = ParamStore::new(&device, 11);
        let mut x = device.normal(&[SAMPLES, WIDTH], 0.0, deviation, 1);
        let mut squares = vec![x.square().mean_all()];
        for layer in 0..LAYERS {
            let weight = params.root().param(layer, &[WIDTH, WIDTH], init).tensor();
            let signs = device.ones(&[SAMPLES, WIDTH]).dropout(0.5, params.draws()) - 1.0;
            x = (nonlinearity(&x) * signs).matmul(&weight.transpose(0, 1));
            squares.push(x.square().mean_all());
        }
        device.eval(&squares.iter().collect::<Vec<_>>()).unwrap();
        squares.iter().map(|square| square.item().unwrap()).collect()
    })
}

/// The same by theory (Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli 2016): q' = WIDTH var(w) E[f(sqrt(q) z)^2] for a
/// standard normal z, the integral by Simpson's rule.
fn theory(variance_times_width: f64, nonlinearity: fn(f64) -> f64, deviation: f64) -> Vec<f64> {
    let mean_square = |q: f64| -> f64 {
        let (steps, end) = (4000, 10.0);
        let step = 2.0 * end / f64::from(steps);
        let at = |i: i32| {
            let z = -end + f64::from(i) * step;
            let share = if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
            share * nonlinearity(q.sqrt() * z).powi(2) * (-0.5 * z * z).exp()
        };
        (0..=steps).map(at).sum::<f64>() * step / 3.0 / std::f64::consts::TAU.sqrt()
    };
    let next = |q: &f64| Some(variance_times_width * mean_square(*q));
    std::iter::successors(Some(deviation * deviation), next).take(LAYERS + 1).collect()
}

/// A nonlinearity of tensors, and of numbers.
type Nonlinear = (fn(&Tensor) -> Tensor, fn(f64) -> f64);

const RELU: Nonlinear = (Tensor::relu, |x| x.max(0.0));
const TANH: Nonlinear = (Tensor::tanh, f64::tanh);
/// Those of SELU (Klambauer et al. 2017).
const ALPHA: f64 = 1.673_263_242_354_377_2;
const SCALE: f64 = 1.050_700_987_355_480_5;
const SELU: Nonlinear = (|x| x.elu(ALPHA) * SCALE, |x| SCALE * if x > 0.0 { x } else { ALPHA * x.exp_m1() });

/// The squares after each of 30 layers, each within 5 % of what theory says.
fn as_in_theory(init: Init, variance_times_width: f64, (tensor, number): Nonlinear, deviation: f64) -> Vec<f64> {
    let got = squares(init, tensor, deviation);
    let want = theory(variance_times_width, number, deviation);
    for (layer, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got / want - 1.0).abs() < 0.05, "{init:?}, layer {layer}: {got:e} instead of {want:e}");
    }
    got
}

#[test]
fn kaiming_keeps_the_variance_through_30_layers_of_relu() {
    for init in [Init::HE, Init::KaimingUniform { fan: Fan::In, nonlinearity: Nonlinearity::Relu }] {
        let got = as_in_theory(init, 2.0, RELU, 1.0);
        assert!((got[LAYERS] / got[0] - 1.0).abs() < 0.05, "{got:?}");
    }
}

#[test]
fn xavier_loses_half_of_it_in_each_layer_of_relu() {
    let got = as_in_theory(Init::XavierNormal { gain: 1.0 }, 1.0, RELU, 1.0);
    assert!((got[LAYERS] / got[0] * 2f64.powi(30) - 1.0).abs() < 0.05, "{got:?}");
}

#[test]
fn xavier_keeps_the_variance_where_tanh_is_nearly_linear() {
    for init in [Init::XavierUniform { gain: 1.0 }, Init::XavierNormal { gain: 1.0 }] {
        let got = as_in_theory(init, 1.0, TANH, 1e-3);
        assert!((got[LAYERS] / got[0] - 1.0).abs() < 0.05, "{got:?}");
    }
}

#[test]
fn xavier_without_a_gain_fades_through_tanh_and_with_it_settles() {
    let faded = as_in_theory(Init::XavierNormal { gain: 1.0 }, 1.0, TANH, 1.0);
    assert!(faded[LAYERS] < 0.03, "{faded:?}");
    let gain = Nonlinearity::Tanh.gain();
    let settled = as_in_theory(Init::XavierNormal { gain }, gain * gain, TANH, 1.0);
    assert!(settled[LAYERS] > 0.4 && (settled[LAYERS] / settled[LAYERS / 2] - 1.0).abs() < 0.05, "{settled:?}");
}

#[test]
fn lecun_keeps_the_variance_through_30_layers_of_selu() {
    let got = as_in_theory(Init::LECUN_NORMAL, 1.0, SELU, 1.0);
    assert!((got[LAYERS] / got[0] - 1.0).abs() < 0.05, "{got:?}");
}
