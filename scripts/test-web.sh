#!/usr/bin/env bash
# Trains in the page with headless Chromium, and compares its losses with those of native runs on the best device. Installs what it
# needs where that is missing: Rust's target for browsers by rustup, Debian's Chromium. Exit status 77: they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'test-web: %s\n' "$*" >&2; }

libraries=$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null || true)
if ! ls "$libraries"/libstd-*.rlib >/dev/null 2>&1 && command -v rustup >/dev/null; then
  rustup target add wasm32-unknown-unknown || { say "Rust's target for browsers cannot be installed"; exit 77; }
fi
if ! ls "$(rustc --print target-libdir --target wasm32-unknown-unknown)"/libstd-*.rlib >/dev/null 2>&1; then
  say "Rust's target for browsers is not there"
  exit 77
fi
if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if ! command -v apt-get >/dev/null; then
    say "there is no Chromium: install it"
    exit 77
  fi
  root=()
  if [ "$(id -u)" -ne 0 ]; then root=(sudo); fi
  if ! { "${root[@]}" apt-get update -qq && "${root[@]}" apt-get install -y --no-install-recommends chromium; }; then
    say "Debian's chromium cannot be installed"
    exit 77
  fi
fi

profile=${PROFILE:-release}
scripts/build-web.sh target/web check
cargo build --profile "$profile" --features full --example browser_losses
losses=${CARGO_TARGET_DIR:-target}/$profile/examples/browser_losses
"$losses" 23 >target/web-losses.json
"$losses" trials 40 >target/web-trials.json

# The same driver as the tab's, where Chromium brings it: for the ratio of the two.
times=()
driver=$(ls /usr/lib/chromium/vk_swiftshader_icd.json /opt/google/chrome/vk_swiftshader_icd.json 2>/dev/null | head -n 1 || true)
if [ -n "$driver" ] && VK_DRIVER_FILES=$driver KILN_DEVICE=vulkan "$losses" time 100 >target/web-times.json; then
  times=(--times target/web-times.json)
fi
scripts/test_web.py target/web target/web-losses.json target/web-trials.json target/web-pictures "${times[@]}"
