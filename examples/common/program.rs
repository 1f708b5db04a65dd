//! What every program takes from the command line, and what it leaves behind.

// Each program uses its part.
#![allow(dead_code)]

#[cfg(feature = "onnx")]
#[path = "onnx_file.rs"]
mod onnx_file;
#[path = "pipe.rs"]
pub mod pipe;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use kiln::prelude::*;
use serde_json::Value;

/// The arguments that all programs share.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// `auto`, `cpu`, a back end (vulkan, metal, dx12, gl) or part of an adapter's name.
    #[arg(long)]
    pub device: Option<String>,
    /// Seed of data, initial values and order.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// A run of seconds on little data, which shows that all of it works.
    #[arg(long)]
    pub quick: bool,
    /// Write the figures that the run reached.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder for pictures, texts and weights that the program makes.
    #[arg(long, value_name = "DIR", default_value = "target/programs")]
    pub out: PathBuf,
    /// Write the trained network as an ONNX file, and beside it what it makes of some inputs; with the feature `onnx`.
    #[arg(long, value_name = "FILE")]
    pub onnx: Option<PathBuf>,
    #[arg(skip = Instant::now())]
    started: Instant,
}

impl Common {
    /// Opens the device and says which one it is.
    pub fn start(&self) -> Result<Device> {
        pipe::end_with_reader();
        let device = self.device.as_ref().map_or_else(Device::best, |name| Device::named(name))?;
        println!("device   {}", device.info());
        Ok(device)
    }

    /// `quick` in a quick run, else `whole`: a number of epochs, say.
    pub fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// Where a file of this name goes; its folder is there.
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("no folder {} for files", self.out.display()))?;
        Ok(self.out.join(name))
    }

    /// Writes a file into the folder of the program's files, and says where it is.
    pub fn keep(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.file(name)?;
        std::fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("wrote    {}", path.display());
        Ok(())
    }

    /// Writes the network where `--onnx` says: what `net` makes of `inputs`, which are for a batch and a length. `lengths` are
    /// the axes that have the length, by input and axis.
    #[allow(unused_variables)]
    pub fn export(
        &self,
        net: impl Fn(&[Tensor]) -> Vec<Tensor>,
        inputs: impl Fn(usize, usize) -> Vec<Tensor>,
        lengths: &[(usize, usize)],
    ) -> Result<()> {
        let Some(path) = &self.onnx else { return Ok(()) };
        #[cfg(feature = "onnx")]
        return onnx_file::write(path, net, inputs, lengths);
        #[cfg(not(feature = "onnx"))]
        anyhow::bail!("{} is written with the feature `onnx` alone", path.display())
    }

    /// Prints the figures and the seconds, and writes them where `--json` says.
    pub fn finish(&self, mut figures: Value) -> Result<()> {
        figures["seconds"] = ((10.0 * self.started.elapsed().as_secs_f64()).round() / 10.0).into();
        println!("reached  {figures}");
        if let Some(path) = &self.json {
            let text = serde_json::to_string_pretty(&figures)?;
            std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}
