//! Networks that are trained in a browser's tab and natively, to be compared: with batch normalisation, with attention, and a tiny one.

use kiln::data::{Batch, Images};
use kiln::nn::{LearnedPositions, TransformerEncoderLayer, TransformerLayerConfig};
use kiln::optim::{Lbfgs, LbfgsConfig, LineSearch};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

/// A network as a function.
type Network = Box<dyn Fn(&Tensor, Mode) -> Tensor>;

/// A network while it is trained on the embedded digits.
pub struct Trial {
    name: String,
    params: ParamStore,
    net: Network,
    adamw: AdamW,
    images: Images,
    batch: usize,
    steps: u64,
}

/// A convolution with batch normalisation, and a linear layer.
fn norm(root: &Path) -> Network {
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv"), 1, 8, 3).padding(1))
        .add(BatchNorm2d::new(&root.child("norm"), 8))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 8 * 4 * 4, 10));
    Box::new(move |x, mode| net.forward(x, mode))
}

/// A transformer over the rows of an image.
fn transformer(root: &Path) -> Network {
    let rows = Linear::new(&root.child("rows"), 8, 32);
    let places = LearnedPositions::new(&root.child("places"), 8, 32);
    let config = TransformerLayerConfig { hidden: 64, ..TransformerLayerConfig::default() };
    let layer = TransformerEncoderLayer::with(&root.child("layer"), 32, 4, config).dropout(0.0);
    let fc = Linear::new(&root.child("fc"), 32, 10);
    Box::new(move |x, mode| {
        let batch = x.shape().map_or(1, |shape| shape[0]);
        let x = places.add(&rows.forward(&x.reshape(&[batch, 8, 8]), mode), 0);
        fc.forward(&layer.forward(&x, mode).mean(1), mode)
    })
}

/// One hidden layer: what a step costs beside its kernels.
fn tiny(root: &Path) -> Network {
    let net = Sequential::new()
        .add(Flatten)
        .add(Linear::new(&root.child("hidden"), 64, 16))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("out"), 16, 10));
    Box::new(move |x, mode| net.forward(x, mode))
}

impl Trial {
    /// Of `norm`, `transformer` or any other name for the tiny one.
    pub fn new(device: &Device, name: &str) -> Trial {
        let params = ParamStore::new(device, 7);
        let net = match name {
            "norm" => norm(&params.root()),
            "transformer" => transformer(&params.root()),
            _ => tiny(&params.root()),
        };
        let adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..AdamWConfig::default() }).clip_norm(1.0);
        Trial { name: name.into(), params, net, adamw, images: kiln::data::digits().train, batch: 32, steps: 0 }
    }

    /// Another one of its name on the same device, from the beginning.
    pub fn beside(&self) -> Trial {
        Trial::new(self.params.device(), &self.name)
    }

    /// The kernels of the last step, each with its workgroups.
    pub fn kernels(&self) -> Vec<String> {
        let plan = self.params.device().last_plan();
        let dispatches = plan.iter().flat_map(|plan| &plan.dispatches);
        dispatches.map(|dispatch| format!("{} {:?}", dispatch.name(), dispatch.grid)).collect()
    }

    fn next(&self) -> Result<Option<Batch>> {
        let mut loader = self.images.batches(self.batch).shuffle(5).drop_last(true);
        let each = loader.batches_per_epoch().max(1);
        loader.seek(kiln::data::Position { epoch: self.steps / each, batch: self.steps % each })?;
        Ok(loader.next())
    }

    /// Records a step and hands it over; its loss is on its way.
    ///
    /// # Errors
    /// What the step met.
    pub fn step(&mut self) -> Result<Tensor> {
        let device = self.params.device().clone();
        let Some(batch) = self.next()? else {
            return Ok(device.zeros(&[]));
        };
        self.steps += 1;
        let logits = (self.net)(&device.tensor(&batch.images, &batch.shape), Mode::Train);
        let loss = logits.cross_entropy(&device.labels(&batch.labels));
        self.adamw.step(&loss)?;
        Ok(loss)
    }

    /// The losses of so many steps.
    ///
    /// # Errors
    /// What a step met.
    pub async fn losses(&mut self, steps: usize) -> Result<Vec<f64>> {
        let mut losses = vec![];
        for _ in 0..steps {
            self.params.device().ready().await?;
            losses.push(self.step()?.item_async().await?);
        }
        Ok(losses)
    }

    /// All that resuming takes.
    ///
    /// # Errors
    /// What reading it met.
    pub async fn save(&self) -> Result<Vec<u8>> {
        Checkpoint::parts().store("model", &self.params).optimizer("model", &self.adamw).save_bytes_async().await
    }

    /// Goes on from there.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub async fn resume(&mut self, bytes: &[u8], steps: u64) -> Result<()> {
        self.steps = steps;
        let file = Checkpoint::from_bytes(bytes)?;
        file.load().store("model", &self.params).optimizer("model", &mut self.adamw).finish_async().await.map(drop)
    }
}

/// The losses before each of some steps of L-BFGS, of the tiny network on one batch.
///
/// # Errors
/// What a step met.
pub async fn quasi_newton(device: &Device, steps: usize) -> Result<Vec<f64>> {
    let trial = Trial { batch: 128, ..Trial::new(device, "tiny") };
    let config = LbfgsConfig { line_search: LineSearch::StrongWolfe, max_iter: 4, ..LbfgsConfig::default() };
    let mut lbfgs = Lbfgs::new(&trial.params, config);
    let Some(batch) = trial.next()? else { return Ok(vec![]) };
    let mut losses = vec![];
    for _ in 0..steps {
        let loss = lbfgs.step_async(|| {
            let logits = (trial.net)(&device.tensor(&batch.images, &batch.shape), Mode::Train);
            logits.cross_entropy(&device.labels(&batch.labels))
        });
        losses.push(loss.await?.item_async().await?);
    }
    Ok(losses)
}
