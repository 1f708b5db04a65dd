//! What an update costs, each rule beside AdamW in one run.
//!
//! `cargo bench --bench optimizers` prints for each rule, with 10 M scalars in 1, 20 and 1,000 parameters: the time of its
//! kernels (the gradient norm aside, by the device's timestamps, the median of some steps in turn with AdamW's), the
//! bytes that they must move for a scalar, and the ratio of the time a byte to AdamW's; then the host time of a cached
//! step, on wgpu's no-op back end, beside AdamW's, alone and with a schedule, an average of the weights and clipping.
//! `-- lion,lamb` runs those alone, with `--kernels` each kernel's time is printed too; `KILN_DEVICE` chooses the device.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kiln::optim::*;
use kiln::prelude::*;
use kiln::schedule;

const SCALARS: usize = 10_000_000;
const ROUNDS: usize = 5;

/// Makes an optimizer over a store.
type Make = fn(&ParamStore) -> Box<dyn Optimizer>;

struct Entry {
    name: &'static str,
    plain: Make,
    /// With a schedule, an average and clipping.
    full: Make,
    accesses: usize,
}

/// A rule of this name, and the accesses to memory that it must make for a scalar: gradients are read, values and moments read
/// and written, what is measured read once more.
macro_rules! rules {
    ($(($name:literal, $type:ident, $config:expr, $accesses:literal)),+ $(,)?) => {
        [$(Entry {
            name: $name,
            plain: |store| Box::new($type::new(store, $config)),
            full: |store| {
                let schedule = schedule::cosine(1e-3, 100_000).warm_up(10);
                let ema = Ema::new(store, 0.999).warm_up();
                Box::new($type::new(store, $config).clip_norm(1.0).schedule(schedule).average(&ema))
            },
            accesses: $accesses,
        }),+]
    };
}

fn rules() -> Vec<Entry> {
    rules![
        ("sgd", Sgd, SgdConfig::default(), 3),
        ("sgd_momentum", Sgd, SgdConfig { momentum: 0.9, ..Default::default() }, 5),
        ("adam", Adam, AdamConfig::default(), 7),
        ("adam_amsgrad", Adam, AdamConfig { amsgrad: true, ..Default::default() }, 9),
        ("adamax", Adamax, AdamaxConfig::default(), 7),
        ("nadam", NAdam, NAdamConfig::default(), 7),
        ("radam", RAdam, RAdamConfig::default(), 7),
        ("adagrad", Adagrad, AdagradConfig::default(), 5),
        ("adadelta", Adadelta, AdadeltaConfig::default(), 7),
        ("rmsprop", RmsProp, RmsPropConfig::default(), 5),
        ("rprop", Rprop, RpropConfig::default(), 7),
        ("asgd", Asgd, AsgdConfig::default(), 5),
        ("lion", Lion, LionConfig::default(), 5),
        ("adan", Adan, AdanConfig::default(), 11),
        ("ftrl", Ftrl, FtrlConfig::default(), 7),
        ("schedule_free_adamw", ScheduleFreeAdamW, ScheduleFreeAdamWConfig::default(), 7),
        ("schedule_free_sgd", ScheduleFreeSgd, ScheduleFreeSgdConfig::default(), 5),
        // Moments are moved while it measures: theta, gradient, both moments twice; then theta twice and the moments.
        ("lamb", Lamb, LambConfig::default(), 10),
        // Theta and the gradient are measured first.
        ("lars", Lars, LarsConfig::default(), 7),
        // Squares of the gradient; theta and the gradient measured; theta and the gradient again.
        ("adafactor", Adafactor, AdafactorConfig::default(), 6),
    ]
    .into()
}

/// Parameters with stored gradients, and an optimizer over them.
struct Site {
    device: Device,
    gradients: Vec<(Param, Tensor)>,
    optimizer: Box<dyn Optimizer>,
}

impl Site {
    fn new(device: &Device, parameters: usize, make: Make) -> Site {
        let store = ParamStore::new(device, 1);
        let side = SCALARS / parameters / 1000;
        let shape = if side >= 10 { [side, 1000] } else { [100, 100] };
        let init = Init::Uniform { low: -1.0, high: 1.0 };
        let all: Vec<Param> = (0..parameters).map(|i| store.root().param(i, &shape, init)).collect();
        let values: Vec<f32> = (0..shape[0] * shape[1]).map(|i| (i % 977) as f32 / 977.0 - 0.4).collect();
        let gradients = all.into_iter().map(|param| (param, device.tensor(&values, &shape))).collect();
        Site { device: device.clone(), gradients, optimizer: make(&store) }
    }

    fn step(&mut self) {
        self.optimizer.step_with(self.gradients.clone()).expect("a step");
    }

    /// Seconds of the update's kernels in a step; `each` is told of every one.
    fn measured(&mut self, mut each: impl FnMut(&str, f64)) -> f64 {
        self.device.set_profiling(true).expect("profiling");
        self.step();
        let profile = self.device.profile().expect("a profile");
        self.device.set_profiling(false).expect("profiling");
        let others = ["clip", "accumulate", "copy", "gather"];
        let own =
            profile.by_name().into_iter().filter(|kernel| !others.iter().any(|other| kernel.name.starts_with(other)));
        let seconds = own.map(|kernel| (kernel.name, kernel.total.as_secs_f64()));
        seconds.inspect(|(name, seconds)| each(name, *seconds)).map(|(_, seconds)| seconds).sum()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds that a cached step takes the host, recording included.
fn host_seconds(make: Make) -> f64 {
    let device = Device::noop().expect("wgpu's no-op back end");
    let store = ParamStore::new(&device, 1);
    let all: Vec<Param> = (0..20).map(|i| store.root().param(i, &[37, 131], Init::Ones)).collect();
    let mut optimizer = make(&store);
    let mut step = || {
        let loss = all.iter().map(|param| param.tensor().square().sum_all()).reduce(|a, b| a + b).expect("parameters");
        optimizer.step(&loss).expect("a step");
    };
    (0..20).for_each(|_| step());
    let mut times = vec![];
    let began = Instant::now();
    while times.len() < 50 || began.elapsed() < Duration::from_millis(300) {
        let start = Instant::now();
        step();
        times.push(start.elapsed().as_secs_f64());
    }
    median(times)
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|all| all.split(',').any(|one| one == name));
    let by_kernel = std::env::args().any(|argument| argument == "--kernels");
    let device = Device::best().expect("a device");
    let adamw: Make = |store| Box::new(AdamW::new(store, AdamWConfig::default()));
    println!("{:20} {:>10} {:>10} {:>8} {:>10}", "rule", "parameters", "ms", "bytes", "time/byte");
    for parameters in [1, 20, 1000] {
        let mut base = Site::new(&device, parameters, adamw);
        base.step();
        for Entry { name, plain, accesses, .. } in rules().into_iter().filter(|rule| is_wanted(rule.name)) {
            let mut site = Site::new(&device, parameters, plain);
            site.step();
            let mut kernels: BTreeMap<String, Vec<f64>> = BTreeMap::new();
            let mut note = |name: &str, seconds| kernels.entry(name.into()).or_default().push(seconds);
            let (own, beside): (Vec<f64>, Vec<f64>) =
                (0..ROUNDS).map(|_| (site.measured(&mut note), base.measured(|_, _| ()))).unzip();
            let (own, beside) = (median(own), median(beside));
            let ratio = own / accesses as f64 / (beside / 7.0);
            println!("{name:20} {parameters:>10} {:>10.2} {:>8} {ratio:>10.2}", own * 1e3, accesses * 4);
            for (kernel, times) in kernels.into_iter().filter(|_| by_kernel) {
                println!("    {kernel:40} {:.2} ms", median(times) * 1e3);
            }
        }
    }
    println!("\n{:20} {:>12} {:>10} {:>28}", "rule", "host, us", "of AdamW's", "with schedule, EMA, clipping");
    for Entry { name, plain, full, .. } in rules().into_iter().filter(|rule| is_wanted(rule.name)) {
        let [own, all, beside] = [plain, full, adamw].map(host_seconds);
        println!("{name:20} {:>12.1} {:>10.2} {:>28.2}", own * 1e6, own / beside, all / beside);
    }
}
