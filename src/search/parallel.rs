//! Trials as lines across the parameters, as the text of an SVG.

use std::fmt::Write;

use super::point::short;
use super::range::Range;
use super::study::Study;
use crate::plot::escaped;

/// Distance of two axes.
const APART: f64 = 130.0;
const SIDE: f64 = 70.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 300.0;
/// Where a line goes that has no value there.
const ABSENT: f64 = 330.0;
const HEIGHT: f64 = 350.0;
/// Lines at most: those of the best trials.
const LINES: usize = 500;
/// Options that are named on an axis.
const NAMED: usize = 12;

/// One axis a parameter, and one for the value; a line a complete trial, the darker the better. A parameter that is not
/// active is passed below its axis.
pub(super) fn parallel(study: &Study) -> String {
    let parameters = study.space.parameters();
    let goal = study.config.goal;
    let mut complete: Vec<_> = study.trials().iter().filter_map(|trial| Some((trial.loss(goal)?, trial))).collect();
    complete.sort_by(|one, other| one.0.total_cmp(&other.0));
    complete.truncate(LINES);
    let width = 2.0 * SIDE + APART * parameters.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" \
         class=\"parallel\" role=\"img\">\n<title>Settings and values of the trials</title>\n"
    );
    let across = |place: usize| SIDE + APART * place as f64;
    let up = |unit: Option<f64>| unit.map_or(ABSENT, |unit| BOTTOM - unit * (BOTTOM - TOP));
    let losses: Vec<f64> = complete.iter().map(|trial| trial.0).collect();
    let (low, high) = (losses.first().copied().unwrap_or(0.0), losses.last().copied().unwrap_or(1.0));
    // Halves, so that the distance of two losses is finite.
    let share = |loss: f64| if high > low { (high / 2.0 - loss / 2.0) / (high / 2.0 - low / 2.0) } else { 0.5 };
    // The best last, so that it lies on top.
    for (rank, (loss, trial)) in complete.iter().enumerate().rev() {
        let mut path = String::new();
        let units = study.space.units(&trial.point);
        for (place, unit) in units.into_iter().chain([Some(share(*loss))]).enumerate() {
            _ = write!(path, "{}{:.1} {:.1}", if place == 0 { "M" } else { "L" }, across(place), up(unit));
        }
        let strength = 1.0 - 0.85 * rank as f64 / complete.len() as f64;
        let class = if rank == 0 { "best" } else { "trial" };
        let name = escaped(&format!("trial {}: {} at {}", trial.number, goal.loss(*loss), trial.point));
        _ = writeln!(
            svg,
            "<path class=\"{class}\" opacity=\"{strength:.2}\" d=\"{path}\"><title>{name}</title></path>"
        );
    }
    for (place, parameter) in parameters.iter().enumerate() {
        axis(&mut svg, across(place), &parameter.name);
        match &parameter.range {
            Range::Choice { options } if options.len() <= NAMED => {
                for (option, name) in options.iter().enumerate() {
                    let unit = (option as f64 + 0.5) / options.len() as f64;
                    label(&mut svg, across(place) + 6.0, up(Some(unit)) + 4.0, "start", name);
                }
            }
            Range::Choice { .. } => {}
            range => ends(&mut svg, across(place), [0.0, 1.0].map(|unit| range.at(unit).to_string())),
        }
    }
    axis(&mut svg, across(parameters.len()), "value");
    if !complete.is_empty() {
        ends(&mut svg, across(parameters.len()), [high, low].map(|loss| short(goal.loss(loss))));
    }
    svg + "</svg>\n"
}

fn axis(svg: &mut String, x: f64, name: &str) {
    _ = writeln!(svg, "<path class=\"axis\" d=\"M{x:.1} {TOP:.1}V{BOTTOM:.1}\"/>");
    label(svg, x, 18.0, "middle", name);
}

fn ends(svg: &mut String, x: f64, [low, high]: [String; 2]) {
    label(svg, x + 6.0, BOTTOM + 4.0, "start", &low);
    label(svg, x + 6.0, TOP + 4.0, "start", &high);
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    _ = writeln!(svg, "<text text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>", escaped(text));
}
