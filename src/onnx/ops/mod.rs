//! The ops that Kiln has, by kind: a file each, with a table of rows at its end.

mod attention;
mod convolution;
mod create;
mod extremes;
mod fourier;
mod graphs;
mod indexing;
mod linear;
mod losses;
mod normalisation;
mod pointwise;
mod pooling;
mod quantised;
mod recurrent;
mod reductions;
mod resize;
mod selection;
mod shapes;
mod spatial;
mod training;
mod types;

use super::call::Row;

/// ONNX's own ops.
const TABLES: &[&[Row]] = &[
    pointwise::FUNCTIONS,
    pointwise::ROWS,
    types::ROWS,
    shapes::ROWS,
    indexing::ROWS,
    selection::ROWS,
    reductions::ROWS,
    extremes::ROWS,
    linear::ROWS,
    convolution::ROWS,
    pooling::ROWS,
    normalisation::ROWS,
    attention::ROWS,
    recurrent::ROWS,
    losses::ROWS,
    create::ROWS,
    resize::ROWS,
    spatial::ROWS,
    fourier::ROWS,
    quantised::ROWS,
    graphs::ROWS,
];

/// The op of a domain, if Kiln has it.
pub fn find(domain: &str, name: &str) -> Option<&'static Row> {
    match domain {
        "" => TABLES.iter().flat_map(|table| table.iter()).find(|row| row.name == name),
        "ai.onnx.preview.training" => training::ROWS.iter().find(|row| row.name == name),
        _ => None,
    }
}

/// Names of the ops that Kiln has, in the order of the alphabet.
pub fn names() -> Vec<&'static str> {
    let rows = TABLES.iter().flat_map(|table| table.iter()).chain(training::ROWS);
    let mut names: Vec<&str> = rows.map(|row| row.name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_op_stands_in_the_tables_once() {
        let mut names = super::names();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
