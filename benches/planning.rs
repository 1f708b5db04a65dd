//! What planning and a cached step cost the host as graphs grow, on wgpu's no-op back end (nothing is computed; everything
//! is recorded, keyed, planned, translated, encoded and submitted).
//!
//! `cargo bench --bench planning` prints, for graphs of 100 to 100,000 recorded nodes (`-- 10000` stops there, `-- recurrent`
//! takes one kind): the time of planning alone (the backward pass and the update are part of it), of the first step (the
//! kernels' translation among it, as far as it is this thread's), and of a cached one with its recording, with the exponent of
//! each: 1 where it grows with the graph, 2 where with its square.

use std::time::Instant;

use kiln::kernel::Capabilities;
use kiln::nn::{Linear, Mode, Module};
use kiln::prelude::*;

const WIDTH: usize = 16;

/// A graph to train: recorded anew at each step.
trait Graph {
    fn loss(&self) -> Tensor;
    fn params(&self) -> &ParamStore;
}

/// Linear layers with tanh between them: 6 nodes a layer.
struct Layers {
    params: ParamStore,
    layers: Vec<Linear>,
}

/// A recurrent net: 12 nodes a time step.
struct Recurrent {
    params: ParamStore,
    input: Linear,
    state: Linear,
    steps: usize,
}

/// Products and sums with host numbers: 4 nodes each.
struct Affine {
    params: ParamStore,
    weight: Param,
    count: usize,
}

impl Graph for Layers {
    fn loss(&self) -> Tensor {
        let x = self.params.device().tensor(&[0.5f32; 8 * WIDTH], &[8, WIDTH]);
        self.layers.iter().fold(x, |x, layer| layer.forward(&x, Mode::Train).tanh()).square().mean_all()
    }

    fn params(&self) -> &ParamStore {
        &self.params
    }
}

impl Graph for Recurrent {
    fn loss(&self) -> Tensor {
        let device = self.params.device();
        let data = device.tensor(&vec![0.5f32; 8 * self.steps * 4], &[8, self.steps, 4]);
        let mut h = device.zeros(&[8, WIDTH]);
        for t in 0..self.steps {
            let x = data.slice(1, t, 1).reshape(&[8, 4]);
            h = (self.input.forward(&x, Mode::Train) + self.state.forward(&h, Mode::Train)).tanh();
        }
        h.square().mean_all()
    }

    fn params(&self) -> &ParamStore {
        &self.params
    }
}

impl Graph for Affine {
    fn loss(&self) -> Tensor {
        (0..self.count).fold(self.weight.tensor(), |x, _| x * 0.999 + 0.001).square().mean_all()
    }

    fn params(&self) -> &ParamStore {
        &self.params
    }
}

fn layers(device: &Device, nodes: usize) -> Box<dyn Graph> {
    let params = ParamStore::new(device, 1);
    let layer = |i| Linear::new(&params.root().child(format!("l{i}")), WIDTH, WIDTH);
    let layers = (0..nodes / 6).map(layer).collect();
    Box::new(Layers { params, layers })
}

fn recurrent(device: &Device, nodes: usize) -> Box<dyn Graph> {
    let params = ParamStore::new(device, 1);
    let [input, state] = [("input", 4), ("state", WIDTH)].map(|(n, k)| Linear::new(&params.root().child(n), k, WIDTH));
    Box::new(Recurrent { params, input, state, steps: nodes / 12 })
}

fn affine(device: &Device, nodes: usize) -> Box<dyn Graph> {
    let params = ParamStore::new(device, 1);
    let weight = params.root().param("weight", &[64], Init::Ones);
    Box::new(Affine { params, weight, count: nodes / 4 })
}

/// Slope of a straight line through (log of nodes, log of seconds).
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let count = logs.len() as f64;
    let (x, y) = logs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
    let both: f64 = logs.iter().map(|(a, b)| (a - x) * (b - y)).sum();
    both / logs.iter().map(|(a, _)| (a - x).powi(2)).sum::<f64>()
}

/// Seconds of this thread on a processor, where the system tells, so that others on the machine do not count; else of the
/// clock.
fn seconds(run: impl FnOnce()) -> f64 {
    let spent = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    let (started, before) = (Instant::now(), spent());
    run();
    let elapsed = started.elapsed().as_secs_f64();
    before.zip(spent()).map_or(elapsed, |(before, after)| (after - before) * 1e-9)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let most = arguments.iter().filter_map(|argument| argument.parse().ok()).next().unwrap_or(100_000);
    let only = arguments.iter().find(|argument| argument.parse::<usize>().is_err());
    type Kind = (&'static str, fn(&Device, usize) -> Box<dyn Graph>);
    let kinds: [Kind; 3] = [("linear layers", layers), ("recurrent net", recurrent), ("host numbers", affine)];
    let capabilities =
        Capabilities { software: true, subgroup: Some(8), storage_buffers: 16, ..Capabilities::default() };
    for (name, make) in kinds.into_iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only.as_str()))) {
        let mut columns: [Vec<(f64, f64)>; 3] = Default::default();
        for nodes in [100, 1_000, 10_000, 100_000].into_iter().filter(|&nodes| nodes <= most) {
            let device = Device::noop().expect("wgpu's no-op back end");
            let graph = make(&device, nodes);
            let mut optimizer = AdamW::new(graph.params(), AdamWConfig::default());
            let loss = graph.loss();
            let mut plan = || drop(optimizer.plan_for(&loss, true, &capabilities, true).expect("a plan"));
            // Many at a time: systems count a thread's time in steps of milliseconds.
            let many = |count: usize, run: &mut dyn FnMut()| seconds(|| (0..count).for_each(|_| run())) / count as f64;
            let planning = many((20_000 / nodes).max(1), &mut plan);
            drop(loss);
            let mut step = || optimizer.step(&graph.loss()).expect("a step");
            let first = seconds(&mut step);
            // Until staging buffers, uploads and read-backs have settled.
            (0..12).for_each(|_| step());
            let cached = (0..5).map(|_| many((100_000 / nodes).max(2), &mut step)).fold(f64::INFINITY, f64::min);
            let dispatches = device.statistics().dispatches;
            println!(
                "{name}, {nodes:6} nodes, {dispatches:5} dispatches: planning {:9.2} ms, first step {:9.2} ms, cached step {:8.3} ms",
                planning * 1e3,
                first * 1e3,
                cached * 1e3
            );
            for (column, value) in columns.iter_mut().zip([planning, first, cached]) {
                column.push((nodes as f64, value));
            }
        }
        let [planning, first, cached] = columns.map(|points| exponent(&points));
        println!(
            "{name}: exponents {planning:.2} of planning, {first:.2} of the first step, {cached:.2} of a cached one"
        );
    }
}
