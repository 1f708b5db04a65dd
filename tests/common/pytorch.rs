//! Values that PyTorch computed in f64; `scripts/pytorch_values.py` and `scripts/optimizers.py` say what is in the files.
#![allow(dead_code)]

use serde_json::Value;

/// The file, in memory.
pub struct File {
    header: Value,
    data: Vec<u8>,
    pub cases: Vec<Case>,
}

/// One case.
pub struct Case {
    pub name: String,
    pub op: String,
    pub attrs: Value,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

impl File {
    pub fn open() -> File {
        File::named("pytorch.safetensors")
    }

    /// The file of this name in `tests/data/`.
    pub fn named(name: &str) -> File {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/");
        let bytes = std::fs::read(format!("{path}{name}")).expect("the values of PyTorch");
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let cases: Value = serde_json::from_str(header["__metadata__"]["cases"].as_str().unwrap()).unwrap();
        let names = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
        };
        let case = |case: &Value| Case {
            name: case["name"].as_str().unwrap().into(),
            op: case["op"].as_str().unwrap().into(),
            attrs: case["attrs"].clone(),
            inputs: names(&case["inputs"]),
            outputs: names(&case["outputs"]),
        };
        let cases = cases.as_array().unwrap().iter().map(case).collect();
        File { data: bytes[8 + length..].to_vec(), header, cases }
    }

    /// What the file says of itself under this name, as JSON.
    pub fn metadata(&self, name: &str) -> Value {
        serde_json::from_str(self.header["__metadata__"][name].as_str().unwrap()).unwrap()
    }

    /// The elements of a float tensor.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let entry = &self.header[name];
        let offset = |i: usize| entry["data_offsets"][i].as_u64().unwrap() as usize;
        let bytes = &self.data[offset(0)..offset(1)];
        match entry["dtype"].as_str().unwrap() {
            "F64" => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            "F32" => bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
            "I32" => bytes.chunks(4).map(|b| f64::from(i32::from_le_bytes(b.try_into().unwrap()))).collect(),
            other => panic!("{name} is {other}"),
        }
    }

    /// True for a tensor of floats.
    pub fn is_float(&self, name: &str) -> bool {
        self.header[name]["dtype"].as_str().unwrap().starts_with('F')
    }

    /// Axis lengths of a tensor.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.header[name]["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    }
}
