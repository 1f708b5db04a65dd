//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kiln::init::{Fan, Init, Nonlinearity};

/// Trains a two-convolution network on images of digits, on any GPU or on the CPU reference.
#[derive(Debug, Clone, Parser)]
#[command(after_help = "Examples:\n  \
    train_cnn                                       the embedded 8x8 digits, best device, a few seconds\n  \
    train_cnn --data mnist --data-dir DIR --epochs 1  the original MNIST files\n  \
    train_cnn --device vulkan --optimizer sgd --lr 0.05 --momentum 0.9\n  \
    train_cnn --checkpoint run.safetensors          saves weights, optimizer and position after every epoch\n  \
    train_cnn --checkpoint run.safetensors --checkpoint-every 5m   and every five minutes\n  \
    train_cnn --resume run.safetensors              goes on where that run stopped, to the same bits\n  \
    train_cnn --max-steps 1 --plan target/plan      writes the WGSL of every kernel of a step\n\n\
    Ctrl-C, SIGTERM and SIGHUP (unless it is ignored, as under nohup) save and end the run; a second one ends it at once.\n\
    KILN_DEVICE chooses the device where --device does not; KILN_DATA is the default of --data-dir; KILN_PROFILE=on\n\
    prints where the time went.")]
pub struct Args {
    /// Images to learn from.
    #[arg(long, value_enum, default_value = "digits")]
    pub data: Data,
    /// Folder with the gzip IDX files of MNIST or Fashion-MNIST.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// `auto`, `cpu`, a back end (vulkan, metal, dx12, gl) or part of an adapter's name.
    #[arg(long)]
    pub device: Option<String>,
    /// List the devices and stop.
    #[arg(long)]
    pub list_devices: bool,
    /// Passes over the training images [default: 20 for digits, 1 for the others].
    #[arg(long)]
    pub epochs: Option<u64>,
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
    #[arg(long, value_enum, default_value = "adamw")]
    pub optimizer: Rule,
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
    #[arg(long, value_enum, default_value = "full")]
    pub precision: Mix,
    /// Initial weights.
    #[arg(long, value_enum, default_value = "kaiming-uniform")]
    pub init: Weights,
    /// Where to save the weights at the end.
    #[arg(long, value_name = "FILE", default_value = "target/train_cnn.safetensors")]
    pub out: PathBuf,
    /// Save everything that resuming takes, after every epoch and when the run is stopped by a signal.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Save the checkpoint after so many steps too, or after so much time (30s, 5m, 2h).
    #[arg(long, value_name = "N|TIME", requires = "checkpoint", value_parser = Every::parse)]
    pub checkpoint_every: Option<Every>,
    /// Go on from a checkpoint. What belongs to it (data, batch size, seed, optimizer, precision) must be as it was.
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
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

/// How often a checkpoint is saved within an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Every {
    /// After so many steps.
    Steps(u64),
    /// At the first step after so much time.
    Time(Duration),
}

impl Every {
    fn parse(text: &str) -> Result<Every, String> {
        let wrong = || "it is neither a number of steps (100) nor a time (30s, 5m, 2h), above 0".to_string();
        let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
        let unit = match unit {
            "" => return number.parse().ok().filter(|&n| n > 0).map(Every::Steps).ok_or_else(wrong),
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let seconds = number.parse::<f64>().map_err(|_| wrong())? * unit;
        let time = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
        if time.is_zero() { Err(wrong()) } else { Ok(Every::Time(time)) }
    }
}

/// Data sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Data {
    /// 1,797 images of 8x8, embedded.
    Digits,
    /// 70,000 images of 28x28, from files.
    Mnist,
    /// 70,000 images of clothes, from files.
    FashionMnist,
}

/// Precisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mix {
    /// f32.
    Full,
    /// f16 where it is enough.
    Mixed,
}

/// Update rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rule {
    /// Adam with decoupled weight decay.
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Initial weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// He, uniform (for ReLU).
    KaimingUniform,
    /// He, normal (for ReLU).
    KaimingNormal,
    /// Glorot, uniform.
    XavierUniform,
    /// Glorot, normal.
    XavierNormal,
    /// Orthogonal.
    Orthogonal,
}

impl Weights {
    pub fn init(self) -> Init {
        let nonlinearity = Nonlinearity::Relu;
        match self {
            Weights::KaimingUniform => Init::KaimingUniform { fan: Fan::In, nonlinearity },
            Weights::KaimingNormal => Init::KaimingNormal { fan: Fan::In, nonlinearity },
            Weights::XavierUniform => Init::XavierUniform { gain: 1.0 },
            Weights::XavierNormal => Init::XavierNormal { gain: 1.0 },
            Weights::Orthogonal => Init::Orthogonal { gain: 1.0 },
        }
    }
}

impl Args {
    /// Passes over the data, with the default of each set.
    pub fn epochs(&self) -> u64 {
        self.epochs.unwrap_or(if self.data == Data::Digits { 20 } else { 1 })
    }

    /// Name of the data set, as on the command line.
    pub fn data_name(&self) -> String {
        name(self.data)
    }

    /// Name of the update rule, as on the command line.
    pub fn optimizer_name(&self) -> String {
        name(self.optimizer)
    }

    /// Name of the precision, as on the command line.
    pub fn precision_name(&self) -> String {
        name(self.precision)
    }
}

fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string())
}
