//! Search over settings: spaces, samplers, pruners, and the file of a study.

#[path = "search/figures.rs"]
mod figures;
#[path = "search/files.rs"]
mod files;
#[path = "search/samplers.rs"]
mod samplers;
#[path = "search/spaces.rs"]
mod spaces;
#[path = "search/trials.rs"]
mod trials;

use kiln::search::{Sampler, Space, Study, StudyConfig, Trial};

/// A number and what depends on a choice.
fn space() -> Space {
    Space::new()
        .log_uniform("lr", 1e-4, 1.0)
        .choice("optimizer", ["sgd", "adamw"])
        .when("optimizer", ["sgd"], |space| space.uniform("momentum", 0.0, 0.99))
        .integer("width", 1, 8)
}

/// Best at lr 0.01 with sgd, momentum 0.9 and width 5.
fn loss(trial: &mut Trial<'_>) -> kiln::Result<f64> {
    let lr = trial.float("lr")?.log10() + 2.0;
    let momentum = match trial.choice("optimizer")? {
        "sgd" => trial.float("momentum")? - 0.9,
        _ => 1.0,
    };
    let width = trial.integer("width")? as f64 - 5.0;
    Ok(lr * lr + momentum * momentum + 0.1 * width * width)
}

/// A study in memory of the space above after so many trials.
fn studied(sampler: impl Sampler + 'static, seed: u64, trials: u64) -> Study {
    let mut study = Study::new(space(), sampler, StudyConfig { seed, ..Default::default() }).unwrap();
    study.run(trials, loss).unwrap();
    study
}
