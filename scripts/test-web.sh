#!/usr/bin/env bash
# Trains in the page with headless Chromium, and compares its losses with those of native runs. Installs what it needs where that is
# missing: Rust's target for browsers by rustup or Debian's packages, Debian's Chromium. Exit status 77: they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'test-web: %s\n' "$*" >&2; }

# Installs Debian's packages.
install() {
  command -v apt-get >/dev/null || return 1
  local root=()
  if [ "$(id -u)" -ne 0 ]; then root=(sudo -n); fi
  "${root[@]}" apt-get update -qq && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

# In a shell of its own: what compiles the native runs is the Rust that is on the PATH.
can_compile() { (. scripts/web-rust.sh); }

if ! can_compile; then
  { command -v rustup >/dev/null && rustup target add wasm32-unknown-unknown; } || install rustc-web cargo-web rust-web-src lld || true
fi
if ! can_compile; then
  say "Rust's library for browsers cannot be installed"
  exit 77
fi
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null && ! install chromium; then
  say "there is no Chromium, and Debian's cannot be installed"
  exit 77
fi

profile=${PROFILE:-release}
scripts/build-web.sh target/web check
cargo build --profile "$profile" --features full --example browser_losses
losses=${CARGO_TARGET_DIR:-target}/$profile/examples/browser_losses
# Nothing that an earlier program kept: neither kernels that it measured nor pipelines.
export KILN_CACHE=off
"$losses" 23 >target/web-losses.json
# By the tab's own driver, which Chromium brings along.
driver=$(ls /usr/lib/chromium/vk_swiftshader_icd.json /opt/google/chrome/vk_swiftshader_icd.json 2>/dev/null | head -n 1 || true)
if [ -n "$driver" ]; then export VK_DRIVER_FILES=$driver; fi
"$losses" trials 20 >target/web-trials.json
scripts/test_web.py target/web target/web-losses.json target/web-trials.json target/web-pictures
