//! Models written by hand: a field of a message is a number and bytes.

/// A whole number as protobuf has it.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that is a number.
pub fn number(tag: u64, value: i64) -> Vec<u8> {
    [varint(tag << 3), varint(value as u64)].concat()
}

/// A field that is a text, bytes or a message.
pub fn bytes(tag: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [varint(tag << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

/// A stored tensor of f32.
pub fn tensor(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims: Vec<u8> = dims.iter().flat_map(|&length| number(1, length)).collect();
    [dims, number(2, 1), bytes(8, name), bytes(9, raw)].concat()
}

/// A stored tensor of i64.
pub fn wholes(name: &str, values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    [number(1, values.len() as i64), number(2, 7), bytes(8, name), bytes(9, raw)].concat()
}

/// A node of ONNX's own ops.
pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let names = |tag: u64, names: &[&str]| names.iter().flat_map(|name| bytes(tag, name)).collect::<Vec<u8>>();
    let attributes: Vec<u8> = attributes.iter().flat_map(|attribute| bytes(5, attribute)).collect();
    [names(1, inputs), names(2, outputs), bytes(3, format!("the {op}")), bytes(4, op), attributes].concat()
}

/// An attribute that is a whole number.
pub fn int(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name), number(3, value), number(20, 2)].concat()
}

/// An attribute that is a graph.
pub fn branch(name: &str, graph: &[u8]) -> Vec<u8> {
    [bytes(1, name), bytes(6, graph), number(20, 5)].concat()
}

/// An input or output of f32 with these axes.
pub fn port(name: &str, dims: &[i64]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|&length| bytes(1, number(1, length))).collect();
    bytes(1, name).into_iter().chain(bytes(2, bytes(1, [number(1, 1), bytes(2, dims)].concat()))).collect()
}

/// A graph.
pub fn graph(nodes: &[Vec<u8>], stored: &[Vec<u8>], inputs: &[Vec<u8>], outputs: &[Vec<u8>]) -> Vec<u8> {
    let all = |tag: u64, parts: &[Vec<u8>]| parts.iter().flat_map(|part| bytes(tag, part)).collect::<Vec<u8>>();
    [all(1, nodes), bytes(2, "graph"), all(5, stored), all(11, inputs), all(12, outputs)].concat()
}

/// A model in this version of ONNX's ops.
pub fn model(graph: &[u8], version: i64) -> Vec<u8> {
    [number(1, 10), bytes(7, graph), bytes(8, number(2, version))].concat()
}
