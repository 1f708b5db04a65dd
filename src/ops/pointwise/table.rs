//! The table of pointwise ops: a file for each idea.

use std::sync::LazyLock;

mod activations;
mod arithmetic;
mod bits;
mod choices;
mod exponentials;
mod row;
mod trigonometry;

pub use activations::*;
pub use arithmetic::*;
pub use bits::*;
pub use choices::*;
pub use exponentials::*;
pub use row::{Derivative, Kind, Row};
pub use trigonometry::*;

/// All rows.
pub static ROWS: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
    [arithmetic::HERE, exponentials::HERE, trigonometry::HERE, activations::HERE, choices::HERE, bits::HERE].concat()
});
