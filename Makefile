.PHONY: train test soak

# Arguments of the example: make train ARGS="--epochs 3 --device cpu"
ARGS ?=

# Needs no driver: without one it trains on the CPU reference.
train:
	cargo run --release --example train_cnn -- $(ARGS)

# Compares the GPU with the CPU reference, so it needs a driver (a software one does) and fails without.
# In a profile of its own, which CI has, too: this crate is optimised less, its dependencies as in release.
test:
	scripts/ensure-driver.sh
	cargo test --profile checks --features full

# Kills train_cnn at random, fills its disk, shares its checkpoint and takes its memory away, and compares what it ends with
# bit for bit; ends with a table. Not part of the tests: it takes the minutes it is given.
MINUTES ?= 15
soak:
	cargo build --release --example train_cnn --example soak
	cargo run --release --example soak -- --minutes $(MINUTES)
