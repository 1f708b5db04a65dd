//! The small network that the page in a browser trains, for that page and for the native run that its losses are held to.

use kiln::data::{Batch, Images};
use kiln::optim::{Lion, LionConfig};
use kiln::prelude::*;

/// What can be chosen. The same settings give the same losses, in a browser and natively.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `adamw`, `adam`, `sgd` or `lion`.
    pub optimizer: String,
    pub lr: f64,
    pub batch: usize,
    pub seed: u64,
    /// Filters of the convolution.
    pub filters: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { optimizer: "adamw".into(), lr: 3e-3, batch: 64, seed: 42, filters: 16 }
    }
}

/// A network of one convolution, with its optimizer.
pub struct DigitsNet {
    pub params: ParamStore,
    pub optimizer: Box<dyn Optimizer>,
    net: Sequential,
}

impl DigitsNet {
    /// For images of `side` by `side` pixels.
    ///
    /// # Errors
    /// [`Error::Value`] for a rate that an optimizer does not take.
    pub fn new(device: &Device, settings: &Settings, side: usize) -> Result<DigitsNet> {
        let params = ParamStore::new(device, settings.seed);
        let filters = settings.filters.clamp(1, 256);
        let net = Sequential::new()
            .add(Conv2d::new(&params.root().child("conv"), 1, filters, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Linear::new(&params.root().child("fc"), filters * (side / 2) * (side / 2), 10));
        let mut optimizer: Box<dyn Optimizer> = match settings.optimizer.as_str() {
            "adam" => Box::new(Adam::new(&params, AdamConfig::default())),
            "sgd" => Box::new(Sgd::new(&params, SgdConfig { momentum: 0.9, ..Default::default() })),
            "lion" => Box::new(Lion::new(&params, LionConfig::default())),
            // Whatever else is asked for.
            _ => Box::new(AdamW::new(&params, AdamWConfig::default())),
        };
        optimizer.set_lr(settings.lr)?;
        Ok(DigitsNet { params, optimizer, net })
    }

    /// Scores of the ten digits.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Tensor {
        self.net.forward(images, mode)
    }

    /// One step. The loss, and the number of images that were right before it, on their way.
    ///
    /// # Errors
    /// What the step met.
    pub fn step(&mut self, batch: &Batch) -> Result<(Tensor, Tensor)> {
        let device = self.params.device();
        let (images, labels) = (device.tensor(&batch.images, &batch.shape), device.labels(&batch.labels));
        let logits = self.forward(&images, Mode::Train);
        let right = logits.detach().argmax(1).eq(&labels).cast(DType::F32).sum_all();
        let loss = logits.cross_entropy(&labels);
        self.optimizer.step(&loss)?;
        Ok((loss, right))
    }
}

/// The batch of a step, counted from 0 over epochs.
///
/// # Errors
/// What loading it met.
pub fn batch_of(images: &Images, settings: &Settings, step: u64) -> Result<Option<Batch>> {
    let mut loader = images.batches(settings.batch.clamp(1, 1024)).shuffle(settings.seed);
    let each = loader.batches_per_epoch().max(1);
    loader.seek(kiln::data::Position { epoch: step / each, batch: step % each })?;
    Ok(loader.next())
}
