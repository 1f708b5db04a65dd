//! Functions that samplers are measured on, each above its minimum.
//!
//! The functions and the values of their minima: Surjanovic and Bingham, "Virtual library of simulation experiments".

use std::f64::consts::PI;

use kiln::search::{Sampler, Space, Study, StudyConfig, Trial};

/// Above its minimum, of two parameters.
fn branin(trial: &Trial<'_>) -> kiln::Result<f64> {
    let (x, y) = (trial.float("x0")?, trial.float("x1")?);
    let bowl = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    Ok(bowl * bowl + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0 - 0.397_887_357_729_738)
}

/// Above its minimum, of six parameters.
fn hartmann(trial: &Trial<'_>) -> kiln::Result<f64> {
    const HEIGHTS: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
    const SHARPNESS: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const CENTRES: [[f64; 6]; 4] = [
        [1312.0, 1696.0, 5569.0, 124.0, 8283.0, 5886.0],
        [2329.0, 4135.0, 8307.0, 3736.0, 1004.0, 9991.0],
        [2348.0, 1451.0, 3522.0, 2883.0, 3047.0, 6650.0],
        [4047.0, 8828.0, 8732.0, 5743.0, 1091.0, 381.0],
    ];
    let mut sum = 3.322_368_011_415_514_7;
    for ((height, sharpness), centre) in HEIGHTS.iter().zip(SHARPNESS).zip(CENTRES) {
        let mut exponent = 0.0;
        for (place, (sharp, centre)) in sharpness.iter().zip(centre).enumerate() {
            exponent += sharp * (trial.float(&format!("x{place}"))? - centre * 1e-4).powi(2);
        }
        sum -= height * (-exponent).exp();
    }
    Ok(sum)
}

/// A function of a trial's settings.
pub type Function = fn(&Trial<'_>) -> kiln::Result<f64>;

/// Functions by name, with what they are searched over.
pub fn functions() -> [(&'static str, Space, Function); 2] {
    let cube = (0..6).fold(Space::new(), |space, place| space.uniform(format!("x{place}"), 0.0, 1.0));
    let plane = Space::new().uniform("x0", -5.0, 10.0).uniform("x1", 0.0, 15.0);
    [("Branin", plane, branin), ("Hartmann-6", cube, hartmann)]
}

/// The median of the best values after 60 trials.
pub fn median(sampler: impl Sampler + Copy + 'static, space: &Space, function: Function, seeds: u64) -> f64 {
    let best = |seed| {
        let config = StudyConfig { seed, ..Default::default() };
        let mut study = Study::new(space.clone(), sampler, config).unwrap();
        study.run(60, |trial| function(trial)).unwrap();
        study.best().unwrap().value.unwrap()
    };
    let mut values: Vec<f64> = (0..seeds).map(best).collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    0.5 * (low + high)
}
