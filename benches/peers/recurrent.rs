//! Training steps of two recurrent layers with 256 units each and a linear one behind them: 32 sequences of 128 steps.

use kiln::nn::{Gru, Linear, Lstm, Mode, Module, RecurrentConfig};
use kiln::prelude::*;

use crate::networks::regress;
use crate::suite::Suite;

pub fn run(suite: &mut Suite) {
    let config = RecurrentConfig { layers: 2, batch_first: true, ..RecurrentConfig::default() };
    suite.run("lstm_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let layers = Lstm::new(&params.root().child("lstm"), 64, 256, config);
        let out = Linear::new(&params.root().child("out"), 256, 16);
        regress(bench, &params, ("sequences/s", 32.0), &[32, 128, 64], &[32, 128, 16], |x| {
            out.forward(&layers.forward(&x, Mode::Train), Mode::Train)
        })
    });
    suite.run("gru_step", |bench| {
        let params = ParamStore::new(&bench.device, 1);
        let layers = Gru::new(&params.root().child("gru"), 64, 256, config);
        let out = Linear::new(&params.root().child("out"), 256, 16);
        regress(bench, &params, ("sequences/s", 32.0), &[32, 128, 64], &[32, 128, 16], |x| {
            out.forward(&layers.forward(&x, Mode::Train), Mode::Train)
        })
    });
}
