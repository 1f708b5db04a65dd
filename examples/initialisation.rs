//! What initial values do to a signal and its gradient: 30 layers of 256 units with ReLU, 256 samples. Prints a table and draws
//! the two pictures of docs/initialisation.md: `cargo run --release --example initialisation -- --out docs/images`.

#[path = "common/program.rs"]
mod program;

use std::fmt::Write as _;

use clap::Parser;
use kiln::init::Nonlinearity;
use kiln::params::{LsuvConfig, lsuv};
use kiln::prelude::*;
use serde_json::json;

/// Measures what initial values do to a signal and its gradient.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

const LAYERS: usize = 30;
const WIDTH: usize = 256;
const COLOURS: [&str; 6] = ["#1b7837", "#2166ac", "#7b3294", "#b2182b", "#e08214", "#4d4d4d"];

type Curve = (&'static str, Vec<f64>);

/// Standard deviations by layer: of what comes out of each before its ReLU, and of the gradient there.
fn deviations(device: &Device, seed: u64, init: Init, scaled_by_batch: bool) -> Result<[Vec<f64>; 2]> {
    let params = ParamStore::new(device, seed);
    let layer = |number| Linear::with(&params.root().child(number), WIDTH, WIDTH, LinearConfig { bias: false, init });
    let layers: Vec<Linear> = (0..LAYERS).map(layer).collect();
    let x = device.normal(&[WIDTH, WIDTH], 0.0, 1.0, 1);
    let outputs = |last: usize| {
        let mut outputs = vec![layers[0].forward(&x, Mode::Train)];
        for layer in &layers[1..=last] {
            outputs.push(layer.forward(&outputs[outputs.len() - 1].relu(), Mode::Train));
        }
        outputs
    };
    if scaled_by_batch {
        let outputs = &outputs;
        let functions: Vec<_> = (0..LAYERS).map(|last| move || outputs(last)[last].clone()).collect();
        let each = layers.iter().zip(&functions);
        let each: Vec<(&Param, &dyn Fn() -> Tensor)> = each.map(|(l, f)| (&l.weight, f as _)).collect();
        lsuv(&each, &LsuvConfig { tolerance: 0.01, ..LsuvConfig::default() })?;
    }
    let outputs = outputs(LAYERS - 1);
    let loss = (&outputs[LAYERS - 1] * device.normal(&[WIDTH, WIDTH], 0.0, 1.0, 2)).sum_all();
    let gradients = loss.gradients(&outputs.iter().collect::<Vec<_>>())?;
    device.eval(&outputs.iter().chain(&gradients).collect::<Vec<_>>())?;
    // In f64: the square of a small deviation is no f32.
    let deviation = |x: &Tensor| {
        let values = x.to_array()?.data;
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        Ok((values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
    };
    let of = |tensors: &[Tensor]| tensors.iter().map(deviation).collect::<Result<Vec<f64>>>();
    Ok([of(&outputs)?, of(&gradients)?])
}

/// Curves over the layers, on a logarithmic scale.
fn chart(title: &str, curves: &[Curve]) -> Result<String, std::fmt::Error> {
    let values = || curves.iter().flat_map(|(_, values)| values).map(|value| value.log10());
    let low = values().fold(0.0, f64::min).floor();
    let high = values().fold(low + 1.0, f64::max).ceil();
    let x = |layer: usize| 70.0 + 440.0 * (layer - 1) as f64 / (LAYERS - 1) as f64;
    let y = |value: f64| 40.0 + 300.0 * (high - value) / (high - low);
    let mut svg = String::from("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 400\" width=\"700\" ");
    writeln!(svg, "height=\"400\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#222\">")?;
    writeln!(svg, "<rect width=\"700\" height=\"400\" fill=\"white\"/>")?;
    writeln!(svg, "<text x=\"70\" y=\"24\" font-size=\"15\">{title}</text>")?;
    let apart = ((high - low) / 8.0).ceil() as usize;
    for tick in (low as i32..=high as i32).step_by(apart.max(1)) {
        let at = y(f64::from(tick));
        writeln!(svg, "<path d=\"M70 {at:.1}H510\" stroke=\"#ddd\"/>")?;
        writeln!(svg, "<text x=\"62\" y=\"{:.1}\" text-anchor=\"end\">1e{tick}</text>", at + 4.0)?;
    }
    for layer in [1, 5, 10, 15, 20, 25, 30] {
        writeln!(svg, "<text x=\"{:.1}\" y=\"360\" text-anchor=\"middle\">{layer}</text>", x(layer))?;
    }
    writeln!(svg, "<text x=\"290\" y=\"384\" text-anchor=\"middle\">layer</text>")?;
    for (number, ((name, values), colour)) in curves.iter().zip(COLOURS).enumerate() {
        let point = |(i, value): (usize, &f64)| format!("{:.1},{:.1}", x(i + 1), y(value.log10()));
        let points: Vec<String> = values.iter().enumerate().map(point).collect();
        let points = points.join(" ");
        // Curves that lie on each other show by their widths.
        let width = 6 - 2 * number.min(2);
        writeln!(svg, "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>")?;
        let at = 60 + 24 * number;
        writeln!(svg, "<path d=\"M525 {at}h20\" stroke=\"{colour}\" stroke-width=\"3\"/>")?;
        writeln!(svg, "<text x=\"552\" y=\"{}\">{name}</text>", at + 4)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let orthogonal = |gain| Init::Orthogonal { gain };
    let inits = [
        ("He", Init::HE, false),
        ("orthogonal, gain √2", orthogonal(Nonlinearity::Relu.gain()), false),
        ("LSUV", orthogonal(1.0), true),
        ("Xavier", Init::XavierNormal { gain: 1.0 }, false),
        ("1 / √(fan in), uniform", Init::FAN_IN_UNIFORM, false),
        ("normal, 0.15", Init::Normal { mean: 0.0, deviation: 0.15 }, false),
    ];
    let mut pictures: [Vec<Curve>; 2] = [vec![], vec![]];
    let mut last_by_name = serde_json::Map::new();
    for (name, init, scaled_by_batch) in inits.into_iter().take(args.pick(6, 2)) {
        let [forward, backward] = deviations(&device, args.seed, init, scaled_by_batch)?;
        let [first, last] = [forward[0], forward[LAYERS - 1]];
        println!(
            "{name:24} activations {first:.2e} to {last:.2e}, gradients {:.2e} to {:.2e}",
            backward[LAYERS - 1],
            backward[0]
        );
        last_by_name.insert(name.into(), json!(last));
        pictures[0].push((name, forward));
        pictures[1].push((name, backward));
    }
    let names = ["activations", "gradients"];
    let titles = ["Standard deviation of a layer's output", "Standard deviation of the gradient of a layer's output"];
    for ((name, title), curves) in names.into_iter().zip(titles).zip(&pictures) {
        args.keep(&format!("initialisation-{name}.svg"), chart(title, curves)?)?;
    }
    let he = last_by_name["He"].as_f64();
    args.finish(json!({ "deviation_of_last_layer": last_by_name }))?;
    anyhow::ensure!(he > Some(0.1) && he < Some(10.0), "He's initial values have not kept the signal");
    Ok(())
}
