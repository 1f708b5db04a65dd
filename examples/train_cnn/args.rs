//! The command line.

use std::path::PathBuf;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kiln::init::{Fan, Init, Nonlinearity};
use kiln::prelude::Precision;
use kiln::train::Every;

/// Trains a two-convolution network on images of digits, on any GPU or on the CPU reference.
#[derive(Debug, Clone, Parser)]
#[command(after_help = "Examples:\n  \
    train_cnn                                       the embedded 8x8 digits, best device, a few seconds\n  \
    train_cnn --data mnist --data-dir DIR --epochs 1  the original MNIST files\n  \
    train_cnn --data folder --data-dir DIR          PNG and JPEG files, a folder a class (with the feature `images`)\n  \
    train_cnn --device vulkan --optimizer sgd --lr 0.05 --momentum 0.9\n  \
    train_cnn --checkpoint run.safetensors          saves weights, optimizer and position after every epoch\n  \
    train_cnn --checkpoint run.safetensors --checkpoint-every 5m   and every five minutes\n  \
    train_cnn --resume run.safetensors              goes on where that run stopped, to the same bits\n  \
    mpirun -n 4 train_cnn --distributed             four ranks (with the feature `mpi`)\n  \
    train_cnn --max-steps 1 --plan target/plan      writes the WGSL of every kernel of a step\n\n\
    Ctrl-C, SIGTERM and SIGHUP (unless it is ignored, as under nohup) save and end the run; a second one ends it at once.\n\
    KILN_DEVICE chooses the device where --device does not; KILN_DATA is the default of --data-dir; KILN_PROFILE=on\n\
    prints where the time went.")]
pub struct Args {
    /// Images to learn from: embedded ones of 8x8, 70,000 of 28x28 from files, or PNG and JPEG files, a folder a class.
    #[arg(long, default_value = "digits", value_parser = ["digits", "mnist", "fashion-mnist", "folder"])]
    pub data: String,
    /// Folder with the gzip IDX files of MNIST or Fashion-MNIST, or with a folder of images for each class.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// `auto`, `cpu`, a back end (vulkan, metal, dx12, gl) or part of an adapter's name.
    #[arg(long)]
    pub device: Option<String>,
    /// List the devices and stop.
    #[arg(long)]
    pub list_devices: bool,
    /// Passes over the training images [default: 1 for mnist and fashion-mnist, 20 for the others].
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Two passes, whatever `--epochs` says: enough to see that all works.
    #[arg(long)]
    pub quick: bool,
    /// Stop after this many steps in all.
    #[arg(long, value_name = "N")]
    pub max_steps: Option<u64>,
    /// Use only the first N training images.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Images a step.
    #[arg(long, default_value_t = 64)]
    pub batch_size: usize,
    /// Update rule.
    #[arg(long, default_value = "adamw", value_parser = ["adamw", "sgd"])]
    pub optimizer: String,
    /// Learning rate at the start; it falls to a tenth along a half cosine.
    #[arg(long, default_value_t = 3e-3)]
    pub lr: f64,
    /// Decoupled for AdamW, added to the gradient for SGD.
    #[arg(long, default_value_t = 1e-2)]
    pub weight_decay: f64,
    /// Momentum of SGD.
    #[arg(long, default_value_t = 0.9)]
    pub momentum: f64,
    /// Largest norm of all gradients together; larger ones are scaled down.
    #[arg(long, value_name = "NORM")]
    pub clip: Option<f64>,
    /// Share of hidden features zeroed while training.
    #[arg(long, default_value_t = 0.2)]
    pub dropout: f64,
    /// Seed of initial values, order and dropout: the same seed gives the same bits.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// f32 throughout, or f16 activations and products with f32 weights and a scaled loss.
    #[arg(long, default_value = "full", value_parser = one_of([("full", Precision::Full), ("mixed", Precision::Mixed)]))]
    pub precision: Precision,
    /// Initial weights.
    #[arg(long, default_value = "kaiming-uniform", value_parser = one_of(WEIGHTS))]
    pub init: Init,
    /// Where to save the weights at the end.
    #[arg(long, value_name = "FILE", default_value = "target/train_cnn.safetensors")]
    pub out: PathBuf,
    /// Write the trained network as an ONNX file too, and beside it what it makes of some inputs; with the feature `onnx`.
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    /// Save everything that resuming takes, after every epoch and when the run is stopped by a signal.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Save the checkpoint after so many steps too, or after so much time (30s, 5m, 2h).
    #[arg(long, value_name = "N|TIME", requires = "checkpoint")]
    pub checkpoint_every: Option<Every>,
    /// Go on from a checkpoint. What belongs to it (data, batch size, seed, optimizer, precision) must be as it was.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Train together with the other ranks that `mpirun` or `srun` has started, each with batches of its own (with the feature
    /// `mpi`, where there are several).
    #[arg(long)]
    pub distributed: bool,
    /// Batches whose gradients make one step, those of all ranks [default: one of each rank].
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub accumulate: u64,
    /// Save the first test images and the logits of the trained network (safetensors), to compare with PyTorch.
    #[arg(long, value_name = "FILE")]
    pub logits: Option<PathBuf>,
    /// Print the kernels of a training step, a line each; with a folder, write this and their WGSL there too.
    #[arg(long, value_name = "FOLDER", num_args = 0..=1)]
    pub plan: Option<Option<PathBuf>>,
    /// Write a trace of the run, host and device, for ui.perfetto.dev or chrome://tracing.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Write settings and figures of the run.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

const RELU: Nonlinearity = Nonlinearity::Relu;
/// Initial weights by name: He's for ReLU, Glorot's, orthogonal ones.
const WEIGHTS: [(&str, Init); 5] = [
    ("kaiming-uniform", Init::KaimingUniform { fan: Fan::In, nonlinearity: RELU }),
    ("kaiming-normal", Init::KaimingNormal { fan: Fan::In, nonlinearity: RELU }),
    ("xavier-uniform", Init::XavierUniform { gain: 1.0 }),
    ("xavier-normal", Init::XavierNormal { gain: 1.0 }),
    ("orthogonal", Init::Orthogonal { gain: 1.0 }),
];

/// One of these values, by its name.
fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    all: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    let found = move |name: String| all.iter().find(|(own, _)| *own == name).map(|(_, value)| *value).ok_or("unknown");
    PossibleValuesParser::new(all.map(|(name, _)| name)).try_map(found)
}

impl Args {
    /// Passes over the data, with the default of each set.
    pub fn epochs(&self) -> u64 {
        let usual = if self.data.contains("mnist") { 1 } else { 20 };
        if self.quick { 2 } else { self.epochs.unwrap_or(usual) }
    }
}
