//! What is composed of other ops over the axes behind channels: channels and pixels exchanged, images sampled at any place,
//! norms of neighbourhoods, and distances between rows.

mod distances;
mod norms;
mod rearrange;
mod sample;

pub use sample::{GridSampleOptions, SampleMode, SamplePadding};

use crate::op::Case;

pub(super) fn cases() -> Vec<Case> {
    let all = [rearrange::cases(), sample::cases(), norms::cases(), distances::cases()].concat();
    let named = |mut case: Case| {
        case.name = format!("Spatial/{}", case.name);
        case
    };
    all.into_iter().map(named).collect()
}
