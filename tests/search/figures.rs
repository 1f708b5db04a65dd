//! How far samplers come in 60 trials, on the functions that others are measured on; `cargo bench --bench samplers` prints
//! all of them.

#[path = "../../benches/samplers/functions.rs"]
mod functions;

use functions::{functions, median};
use kiln::search::{GaussianProcess, Random, Tpe};

/// Optuna 5.0's `TPESampler()`, measured as below over 50 seeds: medians 0.1310 and 0.2680, where its `RandomSampler`
/// has 0.7300 and 1.3603.
const PEER: [f64; 2] = [0.7300 / 0.1310, 1.3603 / 0.2680];

#[test]
fn tpe_comes_as_far_as_a_peer_s() {
    for ((name, space, function), peer) in functions().into_iter().zip(PEER) {
        let [random, tpe] = [median(Random, &space, function, 50), median(Tpe::default(), &space, function, 50)];
        assert!(random / tpe > 0.8 * peer, "{name}: random {random:.4}, TPE {tpe:.4}, the peer's factor {peer:.2}");
    }
}

#[test]
fn the_gaussian_process_comes_further() {
    for ((name, space, function), peer) in functions().into_iter().zip(PEER) {
        let [random, process] =
            [median(Random, &space, function, 50), median(GaussianProcess::default(), &space, function, 3)];
        assert!(random / process > 2.0 * peer, "{name}: random {random:.4}, process {process:.4}");
    }
}
