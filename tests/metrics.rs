//! Metrics against the values of scikit-learn, scikit-image, PyTorch and rapidfuzz (`scripts/values/metrics.py`), in one
//! batch and in uneven ones; and what adding up on the device must hold.

mod common;
#[path = "common/pytorch.rs"]
mod pytorch;

use kiln::train::checkpoint::Checkpoint;
use kiln::train::metrics::{
    Accuracy, Auroc, Average, AveragePrecision, CalibrationError, Confusion, EditDistance, Figure, Metric, Metrics,
    Ndcg, Perplexity, Psnr, R2, Residual, Score, Ssim, TopK, Totals,
};
use kiln::{Array, DType, Device, Error, Shape, Tensor};
use pytorch::{Case, File};

fn devices() -> [(Device, f64); 2] {
    [(Device::cpu(), 1e-9), (common::gpu(), 2e-5)]
}

/// The metric of a case.
fn metric_of(case: &Case) -> Metrics {
    let number = |name: &str| case.attrs[name].as_f64().unwrap_or_else(|| panic!("{name} of {}", case.name));
    let whole = |name: &str| number(name) as usize;
    let (stem, average) = case.op.rsplit_once('_').unwrap_or((&case.op, ""));
    let average = match average {
        "macro" => Some(Average::Macro),
        "micro" => Some(Average::Micro),
        "weighted" => Some(Average::Weighted),
        _ => None,
    };
    let score = match (stem, average) {
        ("precision", Some(average)) => Some(Score::Precision(average)),
        ("recall", Some(average)) => Some(Score::Recall(average)),
        ("iou", Some(average)) => Some(Score::Iou(average)),
        ("dice", Some(average)) => Some(Score::Dice(average)),
        (beta, Some(average)) => Some(Score::FBeta(beta[1..].parse().expect("a beta"), average)),
        _ => match case.op.as_str() {
            "accuracy" => Some(Score::Accuracy),
            "mcc" => Some(Score::Mcc),
            "cohen_kappa" => Some(Score::CohenKappa),
            _ => None,
        },
    };
    let set = Metrics::new();
    if let Some(score) = score {
        assert_eq!(score.name(), case.op);
        return set.add(Confusion::new(whole("classes")).unwrap().score(score));
    }
    match case.op.as_str() {
        "top_k" => set.add(TopK::new(whole("k"))),
        "calibration_error" => set.add(CalibrationError::new(whole("bins"))),
        "accuracy_ignored" => set.add(Accuracy::new().ignore(-100)),
        "perplexity" => set.add(Perplexity::new()),
        "perplexity_ignored" => set.add(Perplexity::new().ignore(-100)),
        "auroc" => set.add(Auroc),
        "average_precision" => set.add(AveragePrecision),
        "ndcg" => set.add(case.attrs["k"].as_u64().map_or(Ndcg::new(), |k| Ndcg::at(k as usize))),
        "mae" => set.add(Residual::Mae),
        "mse" => set.add(Residual::Mse),
        "rmse" => set.add(Residual::Rmse),
        "mape" => set.add(Residual::Mape),
        "r2" => set.add(R2),
        "psnr" => set.add(Psnr::new(number("range"))),
        "ssim" => set.add(Ssim::new(number("range"))),
        "edit_distance" => set.add(EditDistance::new(whole("padding") as i64)),
        other => panic!("no metric {other}"),
    }
}

/// Items from `first` to `end` of an input.
fn items(device: &Device, file: &File, name: &str, first: usize, end: usize) -> Tensor {
    let shape = file.shape(name);
    let width: usize = shape[1..].iter().product();
    let dtype = if file.is_float(name) { DType::F32 } else { DType::I32 };
    let shape = Shape::new(&[&[end - first][..], &shape[1..]].concat()).unwrap();
    device.array(&Array { shape, dtype, data: file.values(name)[first * width..end * width].to_vec() })
}

fn is_near(found: f64, wanted: f64, tolerance: f64) -> bool {
    found.is_nan() && wanted.is_nan() || (found - wanted).abs() <= tolerance * wanted.abs().max(1.0)
}

#[test]
fn figures_are_those_of_scikit_learn_and_pytorch_in_one_batch_and_in_uneven_ones() {
    let file = File::named("metrics.safetensors");
    let mut wrong = vec![];
    for (device, tolerance) in devices() {
        for case in &file.cases {
            let length = file.shape(&case.inputs[0])[0];
            for cuts in [vec![0, length], vec![0, 7.min(length), 8.min(length), length]] {
                let mut metrics = metric_of(case);
                for pair in cuts.windows(2).filter(|pair| pair[0] < pair[1]) {
                    let [x, t] = [0, 1].map(|k| items(&device, &file, &case.inputs[k], pair[0], pair[1]));
                    metrics.update(&x, &t).unwrap();
                }
                let figures = metrics.compute().unwrap();
                let figure = figures.iter().next().unwrap();
                let value = file.values(&case.outputs[0])[0];
                if !is_near(figure.value, value, tolerance) {
                    wrong.push(format!("{} on {}, {cuts:?}: {} for {value}", case.name, device.name(), figure.value));
                }
                let Some(by_class) = case.outputs.get(1).map(|name| file.values(name)) else { continue };
                let found: Vec<f64> = figure.by_class.iter().map(|(_, value)| *value).collect();
                let near = |(found, wanted): (&f64, &f64)| is_near(*found, *wanted, tolerance);
                if found.len() != by_class.len() || !found.iter().zip(&by_class).all(near) {
                    wrong.push(format!("{} by class: {found:?} for {by_class:?}", case.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Logits `[n, 3]` and labels, drawn from a seed.
fn batch(device: &Device, n: usize, seed: u64) -> (Tensor, Tensor) {
    let mut random = kiln::rng::Philox::new(seed, 0);
    let labels: Vec<u32> = (0..n).map(|_| random.below(3)).collect();
    (device.array(&common::normals(&[n, 3], seed)), device.labels(&labels))
}

fn all_of_classes() -> Metrics {
    let confusion = || Confusion::new(3).unwrap();
    Metrics::new()
        .add(Accuracy::new())
        .add(TopK::new(2))
        .add(confusion().score(Score::FBeta(1.0, Average::Macro)))
        .add(confusion().score(Score::Mcc))
        .add(CalibrationError::new(15))
        .add(Perplexity::new())
        .add(Auroc)
}

#[test]
fn an_update_makes_no_plan_after_the_second_and_one_submission() {
    let device = Device::named("vulkan").unwrap();
    let mut metrics = all_of_classes();
    let mut seen = vec![];
    for number in 0..8 {
        let (x, t) = batch(&device, 16, number);
        metrics.update(&(x * 2.0), &t).unwrap();
        let statistics = device.statistics();
        seen.push((statistics.plans_made, statistics.runs));
    }
    let made: Vec<u64> = seen.iter().map(|(plans, _)| *plans).collect();
    // An update submits what the one before it has recorded, so the second batch is planned by the third update.
    assert_eq!(made[2], made[7], "{seen:?}");
    let runs: Vec<u64> = seen.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert_eq!(runs, [1; 7], "{seen:?}");
}

#[test]
fn what_is_added_up_before_a_step_rides_with_it() {
    use kiln::prelude::*;
    let device = Device::named("vulkan").unwrap();
    let params = ParamStore::new(&device, 1);
    let net = Linear::new(&params.root(), 3, 3);
    let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..SgdConfig::default() });
    let mut metrics = Metrics::new().add(Accuracy::new()).add(Perplexity::new());
    let mut runs = vec![];
    for number in 0..6 {
        let (x, t) = batch(&device, 16, number);
        let logits = net.forward(&x, Mode::Train);
        metrics.update(&logits, &t).unwrap();
        sgd.step(&logits.cross_entropy(&t)).unwrap();
        runs.push(device.statistics().runs);
    }
    let steps: Vec<u64> = runs.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(steps, [1; 5]);
    // And they are those of the weights before the step.
    let figures = metrics.compute().unwrap();
    assert!(figures.value("perplexity").unwrap() > 1.0);
}

/// The same count and sum from each batch.
struct Given {
    count: f64,
    sum: f64,
}

impl Metric for Given {
    fn name(&self) -> String {
        "given".into()
    }

    fn observe(&self, x: &Tensor, _: &Tensor, _: Option<&Tensor>) -> kiln::Result<kiln::train::metrics::Observation> {
        Ok(kiln::train::metrics::Observation {
            counts: Some(x.device().full(&[1], self.count, DType::U32)),
            sums: Some(x.device().full(&[1], self.sum, DType::F32)),
            ..Default::default()
        })
    }

    fn figure(&self, totals: &kiln::train::metrics::Totals) -> kiln::Result<Figure> {
        let count = ("count".to_string(), totals.counts[0] as f64);
        Ok(Figure { value: totals.sums[0], by_class: vec![count], ..Figure::default() })
    }
}

#[test]
fn counts_are_exact_beyond_32_bits_and_sums_lose_no_digits_over_many_batches() {
    let device = common::gpu();
    let (batches, count) = (2_000, 16_777_217.0);
    let mut metrics = Metrics::new().add(Given { count, sum: 0.1 });
    let x = device.zeros(&[1]);
    for _ in 0..batches {
        metrics.update(&x, &x).unwrap();
    }
    let figures = metrics.compute().unwrap();
    let figure = figures.get("given").unwrap();
    assert_eq!(figure.by_class[0].1, f64::from(batches) * count);
    // A plain sum of f32 is off by 4e-6 here.
    let wanted = f64::from(batches) * f64::from(0.1f32);
    assert!((figure.value / wanted - 1.0).abs() < 2e-7, "{} for {wanted}", figure.value);
}

#[test]
fn metrics_that_a_checkpoint_kept_go_on_to_the_same_bits() {
    let device = common::gpu();
    let path = std::env::temp_dir().join(format!("kiln-metrics-{}.safetensors", std::process::id()));
    let add = |metrics: &mut Metrics, numbers: std::ops::Range<u64>| {
        for number in numbers {
            let (x, t) = batch(&device, 11, number);
            metrics.update(&x, &t).unwrap();
        }
    };
    let mut whole = all_of_classes();
    add(&mut whole, 0..9);
    let mut first = all_of_classes();
    add(&mut first, 0..5);
    Checkpoint::parts().part("train", &first).save(&path).unwrap();
    let mut second = all_of_classes();
    Checkpoint::open(&path).unwrap().load().part("train", &mut second).finish().unwrap();
    assert_eq!(second.compute().unwrap(), first.compute().unwrap());
    add(&mut second, 5..9);
    assert_eq!(second.compute().unwrap(), whole.compute().unwrap());

    let mut other = Metrics::new().add(Accuracy::new());
    let error = Checkpoint::open(&path).unwrap().load().part("train", &mut other).finish().unwrap_err();
    assert!(error.to_string().contains("perplexity"), "{error}");
    assert!(other.is_empty());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn totals_that_are_nan_survive_a_checkpoint() {
    let device = common::gpu();
    let path = std::env::temp_dir().join(format!("kiln-metrics-nan-{}.safetensors", std::process::id()));
    let mut metrics = Metrics::new().add(Residual::Mae);
    metrics.update(&device.tensor(&[f32::NAN, 1.0], &[2]), &device.zeros(&[2])).unwrap();
    Checkpoint::parts().part("train", &metrics).save(&path).unwrap();
    let mut loaded = Metrics::new().add(Residual::Mae);
    Checkpoint::open(&path).unwrap().load().part("train", &mut loaded).finish().unwrap();
    assert!(loaded.compute().unwrap().value("mae").unwrap().is_nan());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn figures_of_nothing_are_nan_but_for_those_of_a_matrix() {
    let metrics = all_of_classes().add(Residual::Mae).add(R2).add(Ssim::new(1.0)).add(Ndcg::new());
    let figures = metrics.compute().unwrap();
    for name in ["accuracy", "top_2", "calibration_error", "perplexity", "auroc", "mae", "r2", "ssim", "ndcg"] {
        assert!(figures.value(name).unwrap().is_nan(), "{name}");
    }
    assert_eq!((figures.value("f1_macro"), figures.value("mcc")), (Some(0.0), Some(0.0)));
}

#[test]
fn a_reset_forgets_everything() {
    let device = common::gpu();
    let mut metrics = all_of_classes();
    let (x, t) = batch(&device, 16, 1);
    metrics.update(&x, &t).unwrap();
    let first = metrics.compute().unwrap();
    metrics.reset();
    assert!(metrics.is_empty());
    metrics.update(&x, &t).unwrap();
    assert_eq!(metrics.compute().unwrap(), first);
}

#[test]
fn reading_without_blocking_gives_the_same() {
    let device = common::gpu();
    let mut metrics = all_of_classes();
    for number in 0..3 {
        let (x, t) = batch(&device, 16, number);
        metrics.update(&x, &t).unwrap();
    }
    assert_eq!(pollster::block_on(metrics.compute_async()).unwrap(), metrics.compute().unwrap());
}

#[test]
fn a_label_that_is_no_class_is_an_error_and_padding_is_not() {
    for (device, _) in devices() {
        let x = device.tensor(&[0i32, 1, 2], &[3]);
        let t = device.tensor(&[0i32, 1, 7], &[3]);
        let mut metrics = Metrics::new().add(Confusion::new(3).unwrap());
        metrics.update(&x, &t).unwrap();
        let error = metrics.compute().unwrap_err();
        assert!(matches!(&error, Error::Value { what, .. } if what.starts_with("1 items")), "{error}");
        let mut metrics = Metrics::new().add(Confusion::new(3).unwrap().ignore(7));
        metrics.update(&x, &t).unwrap();
        assert_eq!(metrics.compute().unwrap().matrix().unwrap().total(), 2);
    }
}

#[test]
fn scores_of_two_classes_are_cut_at_the_threshold() {
    let device = common::gpu();
    let mut metrics = Metrics::new().add(Confusion::binary(0.0).names(["no", "yes"]).unwrap());
    let (x, t) = (device.tensor(&[-1.0f32, 0.0, 2.0, -3.0], &[4]), device.labels(&[0, 1, 0, 1]));
    metrics.update(&x, &t).unwrap();
    let figures = metrics.compute().unwrap();
    let matrix = figures.matrix().unwrap();
    assert_eq!([matrix.count(0, 0), matrix.count(0, 1), matrix.count(1, 0), matrix.count(1, 1)], [1; 4]);
    assert_eq!(figures.get("accuracy").unwrap().by_class[1], ("yes".to_string(), 0.5));
}

#[test]
fn what_does_not_fit_is_an_error_at_the_call_and_adds_nothing() {
    let device = common::gpu();
    let mut metrics = Metrics::new().add(Accuracy::new());
    let error = metrics.update(&device.zeros(&[4, 3]), &device.labels(&[0, 1])).unwrap_err();
    assert!(matches!(&error, Error::Shape { op: "Accuracy", at, .. } if at.file() == file!()), "{error}");
    let error = metrics.update(&device.zeros(&[2, 3]), &device.zeros(&[2])).unwrap_err();
    assert!(matches!(&error, Error::DType { at, .. } if at.file() == file!()), "{error}");
    let broken = device.zeros(&[2]) + device.zeros(&[3]);
    assert!(metrics.update(&broken, &device.labels(&[0, 1])).is_err());
    assert!(metrics.is_empty());
    let mut twice = Metrics::new().add(Accuracy::new()).add(Accuracy::new());
    let error = twice.update(&device.zeros(&[2, 3]), &device.labels(&[0, 1])).unwrap_err();
    assert!(error.to_string().contains("add_as"), "{error}");
    assert!(Confusion::new(0).is_err() && Confusion::new(2).unwrap().names(["one"]).is_err());
}

#[test]
fn a_score_that_is_not_a_number_shows() {
    let device = common::gpu();
    let mut metrics = Metrics::new().add(Auroc).add(TopK::new(2)).add(CalibrationError::new(15));
    let logits = device.tensor(&[f32::NAN, 0.0, 1.0, 0.0, 1.0, 2.0], &[2, 3]);
    metrics.update(&logits, &device.labels(&[0, 1])).unwrap();
    let figures = metrics.compute().unwrap();
    assert!(figures.value("auroc").unwrap().is_nan() && figures.value("calibration_error").unwrap().is_nan());
    assert_eq!(figures.value("top_2"), Some(0.5));
}

/// Totals are public, and a checkpoint may have those of another metric of the same name.
#[test]
fn totals_of_another_metric_are_an_error_or_a_figure_and_no_panic() {
    let metrics: Vec<Box<dyn Metric>> = vec![
        Box::new(Accuracy::new()),
        Box::new(TopK::new(2)),
        Box::new(Confusion::new(3).unwrap()),
        Box::new(CalibrationError::new(4)),
        Box::new(Perplexity::new()),
        Box::new(Auroc),
        Box::new(AveragePrecision),
        Box::new(Residual::Rmse),
        Box::new(R2),
        Box::new(Psnr::new(1.0)),
        Box::new(Ssim::new(1.0)),
        Box::new(Ndcg::new()),
        Box::new(EditDistance::new(0)),
    ];
    let array = |shape: &[usize], elements: usize| Array {
        shape: Shape::new(shape).unwrap(),
        dtype: DType::F32,
        data: vec![0.5; elements],
    };
    let mut all = vec![Totals::default()];
    for counts in [1, 2, 8, 11, 12] {
        all.push(Totals { items: 3, counts: vec![u64::MAX; counts], ..Totals::default() });
        all.push(Totals { items: 3, sums: vec![0.5; counts], ..Totals::default() });
        all.push(Totals { counts: vec![1; counts], sums: vec![0.5; counts], ..Totals::default() });
    }
    for rows in [
        vec![],
        vec![array(&[3], 3)],
        vec![array(&[], 1), array(&[], 1)],
        vec![array(&[3], 3), array(&[3], 3)],
        vec![array(&[3, 2], 6), array(&[2], 2)],
        vec![array(&[3, 2], 5), array(&[3], 3)],
        vec![array(&[3, 2], 6), array(&[2, 3], 6)],
        vec![array(&[3, 2], 6), array(&[3], 3), array(&[3], 3)],
    ] {
        all.push(Totals { items: 3, rows: vec![rows.clone()], ..Totals::default() });
        all.push(Totals { rows: vec![vec![array(&[2, 4], 8), array(&[2], 2)], rows], ..Totals::default() });
    }
    let mut refused = 0;
    for metric in &metrics {
        for totals in &all {
            match metric.figure(totals) {
                Ok(_) => {}
                Err(error) => {
                    assert!(matches!(&error, Error::Value { .. }), "{error}");
                    refused += usize::from(error.to_string().contains("totals of another metric"));
                }
            }
        }
        let nothing = metric.figure(&Totals::default());
        let counts = ["accuracy", "top_2", "calibration_error", "perplexity", "rmse", "psnr", "ssim"];
        assert_eq!(nothing.is_err(), counts.contains(&metric.name().as_str()), "{}: {nothing:?}", metric.name());
    }
    assert!(refused > 100, "{refused}");
}
