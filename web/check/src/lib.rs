//! What `make test-web` trains in a tab beside the page: networks with batch normalisation and attention, by the kernels of either kind of
//! device, from bytes on, for many steps.
#![cfg(target_family = "wasm")]

use kiln::prelude::*;
use wasm_bindgen::prelude::*;

#[path = "../../../examples/common/trials.rs"]
mod trials;

type Result<T, E = JsError> = std::result::Result<T, E>;

fn failed(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

/// A network in training, and its device.
#[wasm_bindgen]
pub struct Trial {
    device: Device,
    trial: trials::Trial,
}

#[wasm_bindgen]
impl Trial {
    /// Opens the browser's adapter; with `hardware` for the kernels that a GPU gets, whatever it is.
    pub async fn open(name: String, hardware: bool) -> Result<Trial> {
        console_error_panic_hook::set_once();
        let faults: &[&str] = if hardware { &["hardware"] } else { &[] };
        let device = Device::named_with_faults_async("auto", faults).await.map_err(failed)?;
        let trial = trials::Trial::new(&device, &name);
        Ok(Trial { device, trial })
    }

    /// Another one of its name on the same device, from the beginning.
    pub fn beside(&self) -> Trial {
        Trial { device: self.device.clone(), trial: self.trial.beside() }
    }

    /// The kernels of the last step, each with its workgroups.
    pub fn kernels(&self) -> Vec<String> {
        self.trial.kernels()
    }

    /// The losses of so many steps.
    pub async fn losses(&mut self, steps: usize) -> Result<Vec<f64>> {
        self.trial.losses(steps).await.map_err(failed)
    }

    /// Until another step may be taken.
    pub async fn ready(&self) -> Result<()> {
        self.device.ready().await.map_err(failed)
    }

    /// Until all steps are done.
    pub async fn settle(&self) -> Result<()> {
        self.device.synchronize_async().await.map_err(failed)
    }

    /// Records a step and hands it over.
    pub fn step(&mut self) -> Result<()> {
        self.trial.step().map(drop).map_err(failed)
    }

    /// Bytes of GPU memory in use.
    pub fn memory(&self) -> f64 {
        self.device.memory().0 as f64
    }

    /// All that resuming takes.
    pub async fn save(&self) -> Result<Vec<u8>> {
        self.trial.save().await.map_err(failed)
    }

    /// Goes on from such bytes, which were saved after so many steps.
    pub async fn resume(&mut self, bytes: Vec<u8>, steps: u32) -> Result<()> {
        self.trial.resume(&bytes, u64::from(steps)).await.map_err(failed)
    }

    /// Losses of L-BFGS.
    pub async fn quasi_newton(&self, steps: usize) -> Result<Vec<f64>> {
        trials::quasi_newton(&self.device, steps).await.map_err(failed)
    }
}
