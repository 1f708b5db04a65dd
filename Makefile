.PHONY: train test

# Arguments of the example: make train ARGS="--epochs 3 --device cpu"
ARGS ?=

# Needs no driver: without one it trains on the CPU reference.
train:
	cargo run --release --example train_cnn -- $(ARGS)

# Compares the GPU with the CPU reference, so it needs a driver (a software one does) and fails without.
# In release, so that examples and tests share one build.
test:
	scripts/ensure-driver.sh
	cargo test --release
