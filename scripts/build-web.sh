#!/usr/bin/env bash
# Builds the page that trains in a browser's tab, into the folder that is given (target/web). Says what is missing.
# With `check` behind that also what the test trains beside the page. Everything is built in target-web, a target directory of its own: what is compiled for the page serves nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

out=${1:-target/web}
say() { printf 'build-web: %s\n' "$*" >&2; }

libraries=$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null || true)
if ! ls "$libraries"/libstd-*.rlib >/dev/null 2>&1; then
  say "Rust's library for browsers is missing: rustup target add wasm32-unknown-unknown"
  exit 1
fi

export CARGO_TARGET_DIR=$PWD/target-web
cargo build --package kiln-web --profile web --target wasm32-unknown-unknown
cargo build --package kiln-web-tool
"$CARGO_TARGET_DIR/debug/kiln-web-tool" build "$CARGO_TARGET_DIR/wasm32-unknown-unknown/web/kiln_web.wasm" "$out"

if [ "${2:-}" = check ]; then
  cargo build --package kiln-web-check --profile web --target wasm32-unknown-unknown
  "$CARGO_TARGET_DIR/debug/kiln-web-tool" check "$CARGO_TARGET_DIR/wasm32-unknown-unknown/web/kiln_web_check.wasm" "$out"
fi

packed=$(gzip -c "$out/kiln_web_bg.wasm" | wc -c)
say "$((packed / 1000)) kB of wasm when it is packed"
if [ "$packed" -gt 800000 ]; then
  say "more than 800 kB: a page that people wait for"
  exit 1
fi
