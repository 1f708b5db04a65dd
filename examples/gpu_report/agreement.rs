//! Whether ops agree with the reference: a fixed sample of their cases, or all.

use anyhow::Result;
use serde_json::json;

use crate::measure::Report;
use crate::parity::parity;

/// Every so many cases of an op are in the sample.
const STEP: usize = 5;

pub fn sample(report: &mut Report) -> Result<()> {
    let step = match (report.all_cases, report.quick) {
        (true, _) => 1,
        (false, true) => 40,
        (false, false) => STEP,
    };
    let all = kiln::ops::all_cases();
    // In an order in which neighbours are of different ops, so that a sample that ends early has seen most.
    let wanted: Vec<_> = (0..17).flat_map(|first| all.iter().step_by(step).skip(first).step_by(17)).collect();
    let (mut agree, mut differ) = (0, vec![]);
    for case in &wanted {
        if !report.all_cases && report.left() <= 0.0 {
            report.left_out.push(format!("parity/{} of {} cases", wanted.len() - agree - differ.len(), wanted.len()));
            break;
        }
        match parity(&report.device, case) {
            Ok(()) => agree += 1,
            Err(error) => {
                report.line(&case.name, &format!("DIFFERS: {error}"), json!({ "error": error }));
                differ.push(case.name.clone());
            }
        }
    }
    report.disagreements = differ.len();
    let text = format!("{agree} agree, {} differ", differ.len());
    report.line("cases", &text, json!({ "agree": agree, "differ": differ, "of": all.len() }));
    Ok(())
}
