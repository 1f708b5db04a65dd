#!/usr/bin/env bash
# Builds the page that trains in a browser's tab, into the folder that is given (target/web). Says what is missing.
# With `check` behind that also what the test trains beside the page; a warning is an error then. Everything is built in target-web, a
# target directory of its own: what is compiled for the page serves nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/web}
say() { printf 'build-web: %s\n' "$*" >&2; }

if ! . scripts/web-rust.sh; then
  say "Rust's library for browsers is missing: rustup target add wasm32-unknown-unknown"
  exit 1
fi

export CARGO_TARGET_DIR=$PWD/target-web
packages=(--package kiln-web)
if [ "${2:-}" = check ]; then packages+=(--package kiln-web-check); fi
mkdir -p "$CARGO_TARGET_DIR"
told=$CARGO_TARGET_DIR/told.txt
cargo build "${packages[@]}" --profile web --target wasm32-unknown-unknown "${std_options[@]}" 2>&1 | tee "$told" >&2
if [ "${2:-}" = check ] && grep -q '^warning' "$told"; then
  say "the compiler warns"
  exit 1
fi
cargo build --package kiln-web-tool --profile tool
made=$CARGO_TARGET_DIR/wasm32-unknown-unknown/web
"$CARGO_TARGET_DIR/tool/kiln-web-tool" build "$made/kiln_web.wasm" "$out"
if [ "${2:-}" = check ]; then
  "$CARGO_TARGET_DIR/tool/kiln-web-tool" check "$made/kiln_web_check.wasm" "$out"
fi

packed=$(gzip -c "$out/kiln_web_bg.wasm" | wc -c)
say "$((packed / 1000)) kB of wasm when it is packed"
if [ "$packed" -gt 800000 ]; then
  say "more than 800 kB: a page that people wait for"
  exit 1
fi
