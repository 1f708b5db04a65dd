//! How far samplers come in 60 trials, and how long a study of so many takes.
//!
//! `cargo bench --bench samplers` prints the median over 50 studies of the best value above a function's minimum.

mod functions;

use std::time::Instant;

use functions::{functions, median};
use kiln::search::{GaussianProcess, Halton, Random, Tpe};

const STUDIES: u64 = 50;

fn main() {
    println!("| function | sampler | median above the minimum | random / this | seconds a study |");
    println!("| --- | --- | --- | --- | --- |");
    for (name, space, function) in functions() {
        let random = median(Random, &space, function, STUDIES);
        let tell = |sampler: &str, run: &dyn Fn() -> f64| {
            let started = Instant::now();
            let median = run();
            let seconds = started.elapsed().as_secs_f64() / STUDIES as f64;
            println!("| {name} | {sampler} | {median:.4} | {:.2} | {seconds:.2} |", random / median);
        };
        tell("Random", &|| median(Random, &space, function, STUDIES));
        tell("Halton", &|| median(Halton, &space, function, STUDIES));
        tell("Tpe", &|| median(Tpe::default(), &space, function, STUDIES));
        tell("GaussianProcess", &|| median(GaussianProcess::default(), &space, function, STUDIES));
    }
}
