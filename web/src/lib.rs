//! What the page's worker calls: a network that trains, answers and shows itself, step by step, without ever waiting.
#![cfg(target_family = "wasm")]

mod mnist;
mod session;

#[path = "../../examples/common/digits_net.rs"]
mod digits_net;
