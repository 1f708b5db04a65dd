//! A training step of one transformer block: attention with four heads and a perceptron, normalised before each.

use kiln::nn::LayerNorm;
use kiln::prelude::*;

use crate::networks::regress;
use crate::suite::Suite;

pub fn run(suite: &mut Suite) {
    suite.run("gpt_block_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let root = params.root();
        let attention = MultiHeadAttention::new(&root.child("attention"), 256, 4).causal();
        let norms = ["norm1", "norm2"].map(|name| LayerNorm::new(&root.child(name), &[256]));
        let up = Linear::new(&root.child("up"), 256, 1024);
        let down = Linear::new(&root.child("down"), 1024, 256);
        let shape = [8, 128, 256];
        regress(bench, &params, ("tokens/s", 1024.0), &shape, &shape, |x| {
            let x = &x + attention.forward(&norms[0].forward(&x, Mode::Train), Mode::Train);
            let hidden = up.forward(&norms[1].forward(&x, Mode::Train), Mode::Train).gelu();
            x + down.forward(&hidden, Mode::Train)
        })
    });
}
