//! The comparison of a device with the f64 reference, case by case: what tests hold every op to, and what a report samples.

// Each user takes its part.
#![allow(dead_code)]

use kiln::ops::{Case, CaseInput, Draw, Tolerance};
use kiln::rng::Philox;
use kiln::{Array, DType, Device, Shape, Tensor};

/// Draws the elements of a case's input, rounded to what both sides can hold.
pub fn draw(input: &CaseInput, rng: &mut Philox) -> Array {
    let shape = Shape::new(&input.shape).expect("a case's shape");
    let count = shape.elements();
    let mut data: Vec<f64> = match &input.draw {
        Draw::Normal => (0..count).map(|_| rng.normal()).collect(),
        Draw::Uniform(low, high) => (0..count).map(|_| low + (high - low) * rng.uniform()).collect(),
        Draw::Below(bound) => (0..count).map(|_| f64::from(rng.below(*bound))).collect(),
        Draw::Values(values) => values.iter().copied().cycle().take(count).collect(),
        Draw::Distinct => {
            // Multiples of 1/32 that are not whole, in random order, around zero.
            let mut values: Vec<f64> = (0..count).map(|i| (i as f64 - count as f64 / 2.0 + 0.25) / 32.0).collect();
            for i in (1..count).rev() {
                values.swap(i, rng.below(i as u32 + 1) as usize);
            }
            values
        }
    };
    for value in &mut data {
        *value = match input.dtype {
            DType::F32 => f64::from(*value as f32),
            other => other.round(*value),
        };
    }
    Array { shape, dtype: input.dtype, data }
}

/// All inputs of a case, from its name: the same in every run.
pub fn inputs(case: &Case) -> Vec<Array> {
    let seed =
        case.name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut rng = Philox::new(seed, 0);
    case.inputs.iter().map(|input| draw(input, &mut rng)).collect()
}

/// Standard normals of a shape, rounded to f32.
pub fn normals(shape: &[usize], seed: u64) -> Array {
    let input = CaseInput { shape: shape.to_vec(), dtype: DType::F32, draw: Draw::Normal };
    draw(&input, &mut Philox::new(seed, 0))
}

/// The results of a case on `device`, and, with a cotangent for each float one, the gradients of its float inputs.
pub fn run(
    device: &Device,
    case: &Case,
    inputs: &[Array],
    cotangents: Option<&[Array]>,
) -> Result<Vec<Array>, kiln::Error> {
    let differentiable = |array: &Array| array.dtype == DType::F32 && cotangents.is_some();
    let tensors: Vec<Tensor> = inputs
        .iter()
        .map(|array| if differentiable(array) { device.array(array).variable() } else { device.array(array) })
        .collect();
    let results = (case.build)(&tensors).results();
    let Some(cotangents) = cotangents else { return results.iter().map(Tensor::to_array).collect() };
    let terms = floats(&results).zip(cotangents);
    let terms = terms.map(|(result, cotangent)| (result * device.array(cotangent)).sum_all());
    let loss = terms.reduce(|sum, term| sum + term).expect("a float result");
    let wrt: Vec<&Tensor> = tensors.iter().filter(|tensor| tensor.requires_grad()).collect();
    let gradients = loss.gradients(&wrt)?;
    device.eval(&gradients.iter().collect::<Vec<_>>())?;
    results.iter().chain(&gradients).map(Tensor::to_array).collect()
}

/// The results that gradients flow through.
pub fn floats(results: &[Tensor]) -> impl Iterator<Item = &Tensor> {
    results.iter().filter(|result| result.dtype().is_ok_and(DType::is_float))
}

/// A cotangent for each float result of a case.
pub fn cotangents(results: &[Array]) -> Vec<Array> {
    let floats = results.iter().filter(|result| result.dtype.is_float());
    floats.zip(99..).map(|(result, seed)| normals(&result.shape, seed)).collect()
}

/// Absolute values, for the bound of sums.
pub fn absolute(array: &Array) -> Array {
    Array { data: array.data.iter().map(|x| x.abs()).collect(), ..array.clone() }
}

/// `Err` with the worst element unless `got` is within `tolerance` of `want`; `scale` is the result with every term's
/// absolute value.
pub fn compare(got: &Array, want: &Array, scale: Option<&Array>, tolerance: Tolerance) -> Result<(), String> {
    if got.shape != want.shape || got.dtype != want.dtype {
        return Err(format!("{} {} instead of {} {}", got.shape, got.dtype, want.shape, want.dtype));
    }
    let mut worst: (f64, String) = (0.0, String::new());
    let (mut error_square, mut norm_square) = (0.0, 0.0);
    for (i, (&g, &w)) in got.data.iter().zip(&want.data).enumerate() {
        // The reference is compared as a GPU could hold it.
        let as_f32 = f64::from(w as f32);
        if g == as_f32 || (g.is_nan() && w.is_nan()) {
            continue;
        }
        let error = (g - w).abs();
        let bound = match tolerance {
            Tolerance::Exact => 0.0,
            Tolerance::Pointwise { absolute, relative } => absolute + relative * w.abs(),
            Tolerance::Sum { terms } => {
                let scale = scale.map_or(w.abs(), |scale| scale.data[i]);
                // 2^-24 for the rounding of the result itself.
                4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale + 2f64.powi(-24) * w.abs()
            }
            Tolerance::HalfSum { terms } => {
                let scale = scale.map_or(w.abs(), |scale| scale.data[i]);
                // Half precision has steps of 2^-24 near zero.
                4.0 * 2f64.powi(-24) * (terms as f64).sqrt() * scale + 2f64.powi(-10) * w.abs() + 2f64.powi(-24)
            }
        };
        error_square += error * error;
        norm_square += w * w;
        let excess = if error.is_nan() { f64::INFINITY } else { error / bound.max(1e-300) };
        if excess > worst.0 {
            worst = (excess, format!("element {i}: {g:e} instead of {w:e}, {excess:.2} times the bound"));
        }
    }
    if worst.0 > 1.0 {
        return Err(worst.1);
    }
    if let Tolerance::Sum { terms } = tolerance {
        // A few elements may cancel to almost nothing; their own bound stands for them.
        let limit = 2e-7 * (terms as f64).sqrt().max(1.0);
        let relative = error_square.sqrt() / norm_square.sqrt().max(1e-300);
        if got.data.len() >= 16 && error_square > 0.0 && relative > limit {
            return Err(format!("error {relative:e} in norm, more than {limit:e}"));
        }
    }
    Ok(())
}

/// What the reference makes of a case.
pub struct Expected {
    inputs: Vec<Array>,
    cotangents: Option<Vec<Array>>,
    results: Vec<Array>,
    gradients: Vec<Array>,
    /// The same with every term's absolute value, where a tolerance is that of a sum.
    scales: [Option<Vec<Array>>; 2],
}

impl Expected {
    pub fn of(case: &Case) -> Result<Expected, kiln::Error> {
        let cpu = Device::cpu();
        let inputs = inputs(case);
        let positive: Vec<Array> =
            inputs.iter().map(|a| if a.dtype.is_float() { absolute(a) } else { a.clone() }).collect();
        let is_sum = |tolerance| matches!(tolerance, Tolerance::Sum { .. } | Tolerance::HalfSum { .. });
        let results = run(&cpu, case, &inputs, None)?;
        let scale = if is_sum(case.tolerance) { Some(run(&cpu, case, &positive, None)?) } else { None };
        if !case.differentiable {
            return Ok(Expected { inputs, cotangents: None, results, gradients: vec![], scales: [scale, None] });
        }
        let gradients = |inputs: &[Array], cotangents: &[Array]| -> Result<Vec<Array>, kiln::Error> {
            Ok(run(&cpu, case, inputs, Some(cotangents))?.split_off(results.len()))
        };
        let cotangents = cotangents(&results);
        let wanted = gradients(&inputs, &cotangents)?;
        let of_gradients = match is_sum(case.gradient_tolerance) {
            true => Some(gradients(&positive, &cotangents.iter().map(absolute).collect::<Vec<_>>())?),
            false => None,
        };
        let cotangents = Some(cotangents);
        Ok(Expected { inputs, cotangents, results, gradients: wanted, scales: [scale, of_gradients] })
    }

    /// `Err` unless `device` agrees, forward and in gradients. Every buffer is filled with NaN between two runs of the same
    /// plan, and the second is judged; returns whether both gave the same bits.
    pub fn compare(&self, device: &Device, case: &Case) -> Result<bool, String> {
        // Else what hundreds of earlier plans hold would be filled, too.
        device.forget_plans();
        let [scale, scale_of_gradients] = &self.scales;
        let (results, mut repeats) = self.twice(device, case, None)?;
        for (k, (got, want)) in results.iter().zip(&self.results).enumerate() {
            let tolerance = if want.dtype.is_float() { case.tolerance } else { Tolerance::Exact };
            compare(got, want, scale.as_ref().map(|s| &s[k]), tolerance)
                .map_err(|error| format!("result {k}: {error}"))?;
        }
        if self.cotangents.is_some() {
            let (all, same) = self.twice(device, case, self.cotangents.as_deref())?;
            let gradients = &all[self.results.len()..];
            for (k, (got, want)) in gradients.iter().zip(&self.gradients).enumerate() {
                compare(got, want, scale_of_gradients.as_ref().map(|s| &s[k]), case.gradient_tolerance)
                    .map_err(|error| format!("gradient {k}: {error}"))?;
            }
            repeats &= same;
        }
        Ok(repeats)
    }

    /// The second of two runs with every buffer filled with NaN in between, and whether the first gave the same bits.
    fn twice(&self, device: &Device, case: &Case, cotangents: Option<&[Array]>) -> Result<(Vec<Array>, bool), String> {
        let text = |error: kiln::Error| error.to_string();
        let first = run(device, case, &self.inputs, cotangents).map_err(text)?;
        device.poison_buffers().map_err(text)?;
        let second = run(device, case, &self.inputs, cotangents).map_err(text)?;
        let bits =
            |arrays: &[Array]| -> Vec<u64> { arrays.iter().flat_map(|a| &a.data).map(|x| x.to_bits()).collect() };
        let same = bits(&first) == bits(&second);
        Ok((second, same))
    }
}

/// Holds one case, forward and gradients, on `device` to the reference.
pub fn parity(device: &Device, case: &Case) -> Result<(), String> {
    Expected::of(case).map_err(|error| error.to_string())?.compare(device, case).map(drop)
}
