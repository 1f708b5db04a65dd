.PHONY: train test test-mpi examples soak web test-web kernel-stats

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

# Ranks over MPI, more of them than cores: their bits are those of one, and what happens to one ends all. Installs Open MPI and
# libclang on Debian.
test-mpi:
	scripts/test-mpi.sh

# Every example with --quick, one after the other, with the seconds of each; NAMES="gan serve" for some of them.
NAMES ?=
PROFILE ?= release
examples:
	PROFILE=$(PROFILE) scripts/examples.sh $(NAMES)

# Kills train_cnn at random, fills its disk, shares its checkpoint and takes its memory away, and compares what it ends with
# bit for bit; ends with a table. Not part of the tests: it takes the minutes it is given.
MINUTES ?= 15
soak:
	cargo build --release --example train_cnn --example soak
	cargo run --release --example soak -- --minutes $(MINUTES)

# What RADV's compiler makes of the kernels that a large GPU gets, for a GPU that need not be there: see benches/kernels/README.md.
# Wants RADV's driver file and a Vulkan loader; not part of the tests, for figures move with Mesa. TEXTS: where the texts go.
TEXTS ?= target/kernel-texts
kernel-stats:
	cargo bench --profile checks --features full --bench kernel_texts -- $(TEXTS)
	cargo run --release --target-dir target/kernel-stats --manifest-path benches/kernels/stats/Cargo.toml -- $(TEXTS)

# The page that trains in a browser's tab: builds it, and serves it on this machine alone. Needs Rust's target for browsers
# (rustup target add wasm32-unknown-unknown) and a browser with WebGPU.
PORT ?= 8080
web:
	scripts/build-web.sh target/web
	target-web/tool/kiln-web-tool serve target/web $(PORT)

# Trains in the page with headless Chromium, and compares its losses with those of native runs. Installs Chromium (Debian's) and Rust
# for browsers (rustup's target, or Debian's) where they are missing.
test-web:
	PROFILE=$(PROFILE) scripts/test-web.sh
