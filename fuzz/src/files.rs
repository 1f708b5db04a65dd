//! Targets that read a file: whatever its bytes are, a reader returns, within a bound of memory, and what it refuses has
//! changed nothing. What it takes is finite, and comes back the same from a file that is written of it.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kiln::optim::{LossScale, OptimizerState, Rule, Stepper};
use kiln::plan::{Choices, Target};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;
use kiln::{Draws, State, data, fuzzing};

use super::{memory, parts};

/// What a reader may take whatever the file says: error texts, buffers of a file and of a decompressor, small models.
pub(super) const ALWAYS: usize = 512 << 10;
/// Bytes that a reader may take for each byte of a safetensors file: a byte of its header can be a value of its JSON.
pub(super) const A_BYTE: usize = 64;

/// A folder of one thread, in memory where the system has a place for that; it goes away with the thread.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = base.join(format!("kiln-fuzz-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for files");
        Folder(folder)
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file to read");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The system cleans up what this cannot.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A small model with its optimizer.
pub(super) struct Model<R: Rule> {
    pub(super) store: ParamStore,
    parameters: [Param; 2],
    states: Vec<State>,
    draws: Draws,
    pub(super) optimizer: Stepper<R>,
}

/// All that a file can change in a model.
#[derive(Debug)]
pub(super) struct Contents {
    values: Vec<f64>,
    states: Vec<f64>,
    draws: (u64, u64),
    rest: OptimizerState,
}

impl PartialEq for Contents {
    /// To the bit.
    fn eq(&self, other: &Contents) -> bool {
        let bits = |contents: &Contents| -> Vec<u64> {
            let moments = contents.rest.tensors.iter().flat_map(|(.., values)| values);
            contents.values.iter().chain(&contents.states).chain(moments).map(|x| x.to_bits()).collect()
        };
        bits(self) == bits(other) && self.draws == other.draws && self.rest == other.rest
    }
}

impl<R: Rule> Model<R> {
    pub(super) fn new(seed: u64, config: R, scale: Option<LossScale>) -> Model<R> {
        let device = Device::cpu();
        let store = ParamStore::new(&device, seed);
        let root = store.root();
        let draws = store.draws().clone();
        let parameters = [
            root.child("fc").param("weight", &[3, 2], Init::FAN_IN_UNIFORM),
            root.group("biases").child("fc").param("bias", &[3], Init::Zeros),
        ];
        // An i32 that no f32 is.
        let count = device.tensor(&[16_777_217i32, -3], &[2]);
        let norm = root.child("norm");
        let states = vec![norm.state("running_mean", &device.zeros(&[3])), norm.state("count", &count)];
        let optimizer = Stepper::new(&store, config).clip_norm(1.0).loss_scaling(scale);
        let model = Model { store, parameters, states, draws, optimizer };
        model.contents();
        model
    }

    pub(super) fn step(&mut self) -> Result<()> {
        let [weight, bias] = self.parameters.each_ref().map(Param::tensor);
        let x = self.store.device().tensor(&[0.5f32, -1.0, 0.25, 2.0], &[2, 2]);
        let y = (x.matmul(&weight.transpose(0, 1)) + bias).dropout(0.25, &self.draws);
        self.states[0].assign(&y.mean(&[0]));
        self.states[1].assign(&(self.states[1].get() + 1.0));
        self.optimizer.step(&(y - 1.0).square().mean_all())
    }

    pub(super) fn contents(&self) -> Contents {
        let values = self.parameters.iter().flat_map(|parameter| parameter.values().expect("values")).collect();
        let states = self.states.iter().flat_map(|state| state.get().to_array().expect("a state").data).collect();
        let rest = self.optimizer.state().expect("the optimizer's state");
        Contents { values, states, draws: self.draws.position(), rest }
    }
}

impl Contents {
    pub(super) fn check(&self) {
        assert!(self.values.iter().all(|x| x.is_finite()), "values are not finite: {:?}", self.values);
        // A running minimum starts at infinity.
        assert!(!self.states.iter().any(|x| x.is_nan()), "states are NaN: {:?}", self.states);
        let OptimizerState { lr, tensors, .. } = &self.rest;
        assert!(lr.is_finite() && *lr >= 0.0, "a learning rate of {lr}");
        assert!(tensors.iter().all(|(.., values)| values.iter().all(|x| x.is_finite())), "{:?}", self.rest);
    }
}

/// A model that files are loaded into, and one that takes what the first has saved.
struct Pair<R: Rule> {
    first: Model<R>,
    second: Model<R>,
}

impl<R: Rule> Pair<R> {
    fn new(config: impl Fn() -> R, scale: Option<LossScale>) -> Pair<R> {
        Pair { first: Model::new(1, config(), scale), second: Model::new(2, config(), scale) }
    }

    fn load(&mut self, folder: &Folder, path: &Path, length: usize) -> bool {
        let before = self.first.contents();
        let Model { store, optimizer, .. } = &mut self.first;
        let (result, peak) = memory::peak(|| Checkpoint::load(path, store, Some(optimizer)));
        assert!(peak <= ALWAYS + A_BYTE * length, "{peak} bytes of memory for a file of {length}");
        let after = self.first.contents();
        match result {
            Err(error) => {
                assert_eq!(after, before, "changed by a file that was refused: {error}");
                false
            }
            Ok(checkpoint) => {
                after.check();
                let again = folder.0.join("again.safetensors");
                let (position, metadata) = (checkpoint.position, checkpoint.metadata.clone());
                let Model { store, optimizer, .. } = &self.first;
                Checkpoint::save_with(&again, store, Some(optimizer), position, metadata).expect("saved again");
                let Model { store, optimizer, .. } = &mut self.second;
                let loaded = Checkpoint::load(&again, store, Some(optimizer)).expect("loaded again");
                assert_eq!(loaded, checkpoint);
                assert_eq!(self.second.contents(), after);
                true
            }
        }
    }
}

pub(super) fn adamw() -> AdamWConfig {
    AdamWConfig { lr: 0.01, ..Default::default() }
}

pub(super) fn sgd() -> SgdConfig {
    SgdConfig { lr: 0.01, momentum: 0.9, ..Default::default() }
}

/// Weights, as `ParamStore::load` reads them. True if it took them.
pub fn weights(bytes: &[u8]) -> bool {
    thread_local! {
        static MODEL: RefCell<(Folder, Model<SgdConfig>)> =
            RefCell::new((Folder::new(), Model::new(1, SgdConfig::default(), None)));
    }
    MODEL.with_borrow_mut(|(folder, model)| {
        let path = folder.put("weights.safetensors", bytes);
        let before = model.contents();
        let (result, peak) = memory::peak(|| model.store.load(&path));
        let after = model.contents();
        assert!(peak <= ALWAYS + A_BYTE * bytes.len(), "{peak} bytes of memory for a file of {}", bytes.len());
        match result {
            Err(error) => {
                assert_eq!(after, before, "changed by a file that was refused: {error}");
                false
            }
            Ok(()) => {
                after.check();
                assert_eq!((after.draws, &after.rest), (before.draws, &before.rest));
                // It can be saved and loaded; what is written is f32, which not all is that the reference holds.
                let again = folder.0.join("again.safetensors");
                let all = after.values.iter().chain(&after.states);
                match model.store.save(&again) {
                    Ok(()) => model.store.load(&again).expect("loaded again"),
                    Err(error) => {
                        assert!(
                            all.clone().any(|&x| x.is_finite() && !(x as f32).is_finite()),
                            "not saved again: {error}"
                        )
                    }
                }
                true
            }
        }
    })
}

/// A checkpoint, as `Checkpoint::load` reads it into a model with AdamW and into one with SGD and a loss scale. True
/// if either took it.
pub fn checkpoint(bytes: &[u8]) -> bool {
    type Models = (Folder, Pair<AdamWConfig>, Pair<SgdConfig>);
    thread_local! {
        static MODELS: RefCell<Models> =
            RefCell::new((Folder::new(), Pair::new(adamw, None), Pair::new(sgd, Some(LossScale::default()))));
    }
    MODELS.with_borrow_mut(|(folder, first, second)| {
        let path = folder.put("checkpoint.safetensors", bytes);
        first.load(folder, &path, bytes.len()) | second.load(folder, &path, bytes.len())
    })
}

/// The four files of a data set.
const IDX: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// The files of a small data set: five images of 3 x 2 to train, two to test.
fn good_idx() -> [Vec<u8>; 4] {
    let file = |sizes: &[u32], values: &dyn Fn(usize) -> u8| -> Vec<u8> {
        let mut bytes = (0x0800 + sizes.len() as u32).to_be_bytes().to_vec();
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend((0..sizes.iter().product::<u32>() as usize).map(values));
        bytes
    };
    let (pixel, label) = (|i: usize| (i * 37 % 256) as u8, |i: usize| (i * 3 % 10) as u8);
    [file(&[5, 3, 2], &pixel), file(&[5], &label), file(&[2, 3, 2], &pixel), file(&[2], &label)]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

/// Values that the header of an IDX file promises, 0 for what is no header.
fn promised(file: &[u8]) -> usize {
    let mut head = vec![];
    // What cannot be decompressed promises nothing.
    let _ = match file.starts_with(&[0x1f, 0x8b]) {
        true => flate2::read::GzDecoder::new(file).take(16).read_to_end(&mut head),
        false => file.take(16).read_to_end(&mut head),
    };
    let sizes = head.get(4..4 + 4 * usize::from(head.get(3).copied().unwrap_or(0)).min(3)).unwrap_or_default();
    let size = |word: &[u8]| u32::from_be_bytes([word[0], word[1], word[2], word[3]]) as usize;
    sizes.chunks_exact(4).map(size).fold(1, usize::saturating_mul)
}

/// One of the four files of a data set, as `data::mnist` reads it beside three good ones. The first byte says which, and
/// whether the rest is compressed first. True if it was read.
pub fn idx(bytes: &[u8]) -> bool {
    thread_local! {
        static FOLDERS: RefCell<[Folder; 4]> = RefCell::new([(); 4].map(|()| {
            let folder = Folder::new();
            IDX.iter().zip(good_idx()).for_each(|(name, bytes)| drop(folder.put(name, &bytes)));
            folder
        }));
    }
    let Some((&selector, rest)) = bytes.split_first() else { return false };
    let which = usize::from(selector & 3);
    let packed = if selector & 4 != 0 { gzip(rest) } else { vec![] };
    let file = if selector & 4 != 0 { &packed[..] } else { rest };
    FOLDERS.with_borrow(|folders| {
        folders[which].put(IDX[which], file);
        let (result, peak) = memory::peak(|| data::mnist(&folders[which].0));
        // Deflate packs at most 1,032 bytes into one; a value is a byte, then an f32.
        let values = promised(file).min(file.len().saturating_mul(1032));
        assert!(peak <= ALWAYS + 8 * values, "{peak} bytes of memory for {values} values in {} bytes", file.len());
        match result {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                false
            }
            Ok(splits) => {
                for set in [&splits.train, &splits.test] {
                    let shape = set.shape();
                    assert_eq!(shape[1..], splits.train.shape()[1..]);
                    let batch = set.batches(3).next().expect("a data set is not empty");
                    assert!(batch.labels.iter().all(|&label| label < 10));
                    assert!(batch.images.iter().all(|x| (0.0..=1.0).contains(x)));
                    assert_eq!(batch.images.len(), batch.shape.iter().product::<usize>());
                }
                true
            }
        }
    })
}

const KIND: &str = "tuning";
const OWNER: &str = "a driver";

/// A file that a device keeps between programs. The first byte says whether the rest is the whole file, what follows a
/// checksum that fits, or the data that such a file holds. True if there were choices in it.
pub fn cache(bytes: &[u8]) -> bool {
    let Some((&selector, rest)) = bytes.split_first() else { return false };
    let file = match selector % 3 {
        0 => rest.to_vec(),
        1 => fuzzing::with_checksum(rest),
        _ => fuzzing::seal(KIND, OWNER, rest),
    };
    let (opened, peak) = memory::peak(|| fuzzing::open(&file, KIND, OWNER).map(<[u8]>::to_vec));
    assert!(peak <= ALWAYS + 2 * file.len(), "{peak} bytes of memory for a file of {}", file.len());
    let Ok(data) = opened else { return false };
    assert_eq!(fuzzing::seal(KIND, OWNER, &data), file, "taken, though nobody writes such a file");
    let (choices, peak) = memory::peak(|| fuzzing::choices(&data));
    assert!(peak <= ALWAYS + 256 * data.len(), "{peak} bytes of memory for {} of choices", data.len());
    let Some(choices) = choices.filter(|choices| !choices.is_empty()) else { return false };
    // Whatever was chosen, a plan is made.
    thread_local! {
        static PRODUCT: [Tensor; 2] = {
            let device = Device::cpu();
            let a = device.zeros(&[65, 33]);
            [a.matmul(&device.zeros(&[33, 64])), a.transpose(0, 1).matmul(&device.zeros(&[65, 5]))]
        };
    }
    PRODUCT.with(|product| {
        let choices = Choices { measured: choices, ..Choices::default() };
        let target = Target { choices, ..Target::default() };
        let plan = product[0].device().plan_with(&product.each_ref(), &target, true).expect("a plan");
        assert!(plan.dispatches.len() >= 2);
    });
    true
}

/// Inputs to start from for each file target: what the library itself writes, and what it reads besides.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "weights" => {
            let (folder, mut model) = (Folder::new(), Model::new(3, adamw(), None));
            model.step().expect("a step");
            let path = folder.0.join("seed.safetensors");
            model.store.save(&path).expect("saved");
            let full = fs::read(&path).expect("read");
            Checkpoint::save(&path, &model.store, None, None).expect("saved");
            vec![full, fs::read(&path).expect("read"), halves("F16", half::f16::ONE.to_bits()), halves("BF16", 0x3f80)]
        }
        "checkpoint" => {
            let folder = Folder::new();
            let path = folder.0.join("seed.safetensors");
            let position = Some(data::Position { epoch: 2, batch: 7 });
            let mut all = vec![];
            let mut first = Model::new(3, adamw(), None);
            let mut second = Model::new(3, sgd(), Some(LossScale::default()));
            for _ in 0..2 {
                Checkpoint::save(&path, &first.store, Some(&first.optimizer), position).expect("saved");
                all.push(fs::read(&path).expect("read"));
                Checkpoint::save(&path, &second.store, Some(&second.optimizer), None).expect("saved");
                all.push(fs::read(&path).expect("read"));
                first.step().expect("a step");
                second.step().expect("a step");
            }
            all
        }
        "parts" => parts::seeds(),
        "idx" => {
            let of = |selector: u8, bytes: &[u8]| [&[selector], bytes].concat();
            let good = good_idx();
            let plain = good.iter().enumerate().flat_map(|(i, file)| [of(i as u8, file), of(4 + i as u8, file)]);
            plain.chain([of(0, &gzip(&good[0])), of(1, &gzip(&good[1]))]).collect()
        }
        "cache" => {
            let text = b"matmul 128x64x64\tmatmul.tiled.64 00000000deadbeef\nconv2d 3x3\tconv2d 0123456789abcdef\n";
            let sealed = fuzzing::seal(KIND, OWNER, text);
            vec![[&[0], &sealed[..]].concat(), [&[1], &sealed[16..]].concat(), [&[2], &text[..]].concat()]
        }
        other => panic!("no target is called {other}"),
    }
}

/// Weights of the model in 16 bits.
fn halves(dtype: &str, one: u16) -> Vec<u8> {
    let tensors =
        [("fc.weight", vec![3usize, 2]), ("fc.bias", vec![3]), ("norm.running_mean", vec![3]), ("norm.count", vec![2])];
    let (mut header, mut data) = (serde_json::Map::new(), vec![]);
    for (name, shape) in tensors {
        let start = data.len();
        let dtype = if name == "norm.count" { "I32" } else { dtype };
        for _ in 0..shape.iter().product() {
            match dtype {
                "I32" => data.extend(16_777_217i32.to_le_bytes()),
                _ => data.extend(one.to_le_bytes()),
            }
        }
        let entry = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.into(), entry);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    // PyTorch's writer aligns the data.
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &data].concat()
}
