//! One run of training.

use std::collections::VecDeque;

use kiln::data::Splits;
use kiln::prelude::*;
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

use crate::digits_net::{DigitsNet, Settings, batch_of};
use crate::mnist;

/// Losses of the first steps with the settings that the page begins with, from a native run.
const NATIVE: &str = include_str!("../native_losses.json");
/// Losses that are kept to be compared with those.
const COMPARED: usize = 20;
/// Sides of the images that are embedded.
const SIDE: usize = 8;
/// Test images that are looked at after an epoch, at most.
const JUDGED: usize = 2000;
/// Steps whose losses are on their way.
const UNDER_WAY: usize = 2;

/// A loss on its way, the right answers, and how many images they are of.
struct Coming {
    loss: Tensor,
    right: Tensor,
    images: usize,
}

/// A network in training.
#[wasm_bindgen]
pub struct Session {
    device: Device,
    settings: Settings,
    digits: Splits,
    net: DigitsNet,
    steps: u64,
    coming: VecDeque<Coming>,
    losses: Vec<f64>,
    /// Weights of a file were taken: the losses are not those of a run from the beginning.
    loaded: bool,
}

type Result<T, E = JsError> = std::result::Result<T, E>;

fn failed(error: Error) -> JsError {
    JsError::new(&error.to_string())
}

#[wasm_bindgen]
impl Session {
    /// Opens the adapter, or the reference if `wanted` is `cpu`, and makes a network by these settings (JSON).
    pub async fn open(wanted: String, settings: String) -> Result<Session> {
        console_error_panic_hook::set_once();
        let device = match wanted.as_str() {
            "cpu" => Device::cpu(),
            name => Device::named_async(name).await.map_err(failed)?,
        };
        let (settings, digits) = (settings_of(&settings), kiln::data::digits());
        let net = DigitsNet::new(&device, &settings, SIDE).map_err(failed)?;
        let (coming, losses) = (VecDeque::new(), vec![]);
        Ok(Session { device, settings, digits, net, steps: 0, coming, losses, loaded: false })
    }

    /// Begins anew with other settings, on the same device.
    pub fn restart(&mut self, settings: String) -> Result<()> {
        self.settings = settings_of(&settings);
        self.net = DigitsNet::new(&self.device, &self.settings, self.side()).map_err(failed)?;
        (self.steps, self.coming, self.losses, self.loaded) = (0, VecDeque::new(), vec![], false);
        Ok(())
    }

    /// Begins anew on the images of four files: those to train with their labels, and those to test.
    pub fn take(&mut self, train: &[u8], labels: &[u8], test: &[u8], answers: &[u8]) -> Result<()> {
        self.digits = mnist::splits([train, labels, test, answers]).map_err(|what| JsError::new(&what))?;
        self.net = DigitsNet::new(&self.device, &self.settings, self.side()).map_err(failed)?;
        (self.steps, self.coming, self.losses, self.loaded) = (0, VecDeque::new(), vec![], false);
        Ok(())
    }

    fn side(&self) -> usize {
        self.digits.train.shape()[1]
    }

    /// What is trained, and on what, as JSON.
    pub fn describe(&self) -> String {
        let info = self.device.info();
        json!({
            "name": info.name, "backend": info.backend, "kind": info.kind,
            "parameters": self.net.params.count(),
            "train": self.digits.train.len(), "test": self.digits.test.len().min(JUDGED), "side": self.side(),
        })
        .to_string()
    }

    /// Takes a step, and tells what has become known: losses of earlier steps, where training stands.
    pub async fn step(&mut self) -> Result<String> {
        self.device.ready().await.map_err(failed)?;
        if let Some(batch) = batch_of(&self.digits.train, &self.settings, self.steps).map_err(failed)? {
            let (loss, right) = self.net.step(&batch).map_err(failed)?;
            self.coming.push_back(Coming { loss, right, images: batch.len() });
            self.steps += 1;
        }
        self.report(UNDER_WAY).await
    }

    /// Tells of all steps so far.
    pub async fn settle(&mut self) -> Result<String> {
        self.report(0).await
    }

    async fn report(&mut self, under_way: usize) -> Result<String> {
        let mut known = vec![];
        while self.coming.len() > under_way {
            let Some(Coming { loss, right, images }) = self.coming.pop_front() else { break };
            let loss = loss.item_async().await.map_err(failed)?;
            let right = right.item_async().await.map_err(failed)?;
            if self.losses.len() < COMPARED {
                self.losses.push(loss);
            }
            known.push(json!({ "loss": loss, "accuracy": right / images.max(1) as f64, "images": images }));
        }
        let (used, _) = self.device.memory();
        let each = self.digits.train.len().div_ceil(self.settings.batch.max(1)).max(1) as u64;
        let statistics = self.device.statistics();
        Ok(json!({
            "steps": self.steps, "epoch": self.steps / each, "known": known,
            "dispatches": statistics.dispatches, "memory": used,
        })
        .to_string())
    }

    /// The largest difference of the first losses from those of a native run, and of how many; nothing for other settings.
    pub fn difference(&self) -> Option<Vec<f64>> {
        if self.settings != Settings::default() || self.loaded || self.side() != SIDE {
            return None;
        }
        let native: Vec<f64> = serde_json::from_str(NATIVE).ok()?;
        if self.losses.len() < native.len() {
            return None;
        }
        let worst = self.losses.iter().zip(&native).map(|(own, native)| (own - native).abs()).fold(0.0, f64::max);
        Some(vec![worst, native.len() as f64])
    }

    /// Changes the learning rate from the next step on.
    pub fn set_rate(&mut self, lr: f64) -> Result<()> {
        self.net.optimizer.set_lr(lr).map_err(failed)?;
        self.settings.lr = lr;
        Ok(())
    }

    /// Probabilities of the ten digits for an image, of numbers from 0 to 1.
    pub async fn predict(&self, pixels: Vec<f32>) -> Result<Vec<f32>> {
        let image = self.device.tensor(&pixels, &[1, 1, self.side(), self.side()]);
        let scores = no_grad(|| self.net.forward(&image, Mode::Eval).softmax(1));
        scores.to_vec_async().await.map_err(failed)
    }

    /// A test image: its label, then its pixels.
    pub fn example(&self, number: u32) -> Vec<f32> {
        let test = &self.digits.test;
        let place = number as usize % test.len().max(1);
        let label = test.labels().get(place).map(|&label| label as f32);
        let pixels = self.side() * self.side();
        label.into_iter().chain(test.images().iter().skip(pixels * place).take(pixels).copied()).collect()
    }

    /// The filters of the first layer, nine numbers each.
    pub async fn filters(&self) -> Result<Vec<f32>> {
        let weight = self.net.params.get("conv.weight").ok_or_else(|| JsError::new("there is no first layer"))?;
        weight.tensor().to_vec_async().await.map_err(failed)
    }

    /// Loss and accuracy on the test images, and some that are wrong, as JSON.
    pub async fn evaluate(&self) -> Result<String> {
        let test = &self.digits.test;
        let (mut loss, mut right, mut wrong) = (0.0, 0, vec![]);
        let pixels = self.side() * self.side();
        let mut count = 0;
        for batch in test.batches(120) {
            if count >= JUDGED {
                break;
            }
            count += batch.len();
            self.device.ready().await.map_err(failed)?;
            let images = self.device.tensor(&batch.images, &batch.shape);
            let labels = self.device.labels(&batch.labels);
            let (summed, guesses) = no_grad(|| {
                let logits = self.net.forward(&images, Mode::Eval);
                (logits.cross_entropy(&labels) * batch.len() as f64, logits.argmax(1))
            });
            let guesses = guesses.cast(DType::I32);
            // Together, so that the forward pass runs once.
            self.device.eval(&[&summed, &guesses]).map_err(failed)?;
            let guesses: Vec<i32> = guesses.to_vec_async().await.map_err(failed)?;
            loss += summed.item_async().await.map_err(failed)?;
            for (i, (&guess, &label)) in guesses.iter().zip(&batch.labels).enumerate() {
                if guess as u32 == label {
                    right += 1;
                } else if wrong.len() < 12 {
                    wrong.push(
                        json!({ "guess": guess, "label": label, "pixels": batch.images[i * pixels..][..pixels] }),
                    );
                }
            }
        }
        let judged = count.max(1) as f64;
        Ok(json!({ "loss": loss / judged, "accuracy": right as f64 / judged, "count": count, "wrong": wrong })
            .to_string())
    }

    /// The weights, as a safetensors file.
    pub async fn save(&self) -> Result<Vec<u8>> {
        self.net.params.save_bytes_async().await.map_err(failed)
    }

    /// Takes the weights of such a file.
    pub fn load(&mut self, bytes: Vec<u8>) -> Result<()> {
        self.loaded = true;
        self.net.params.load_bytes(&bytes).map_err(failed)
    }

    /// Destroys the device, as a driver's reset would.
    pub fn lose(&self) {
        self.device.destroy();
    }
}

/// The settings that a text holds; what it has not is as at the beginning.
fn settings_of(text: &str) -> Settings {
    let given: Value = serde_json::from_str(text).unwrap_or_default();
    let usual = Settings::default();
    let whole = |name: &str, usual: u64| given[name].as_u64().unwrap_or(usual);
    Settings {
        optimizer: given["optimizer"].as_str().unwrap_or(&usual.optimizer).into(),
        lr: given["lr"].as_f64().unwrap_or(usual.lr),
        batch: whole("batch", usual.batch as u64).clamp(1, 1024) as usize,
        seed: whole("seed", usual.seed),
        filters: whole("filters", usual.filters as u64).clamp(1, 64) as usize,
    }
}
