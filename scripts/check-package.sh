#!/usr/bin/env bash
# Makes the package that a registry would get, lists it, compiles what is in it, and fails where it is above 8 MB or holds the
# data of tests. In the profile of CI and for the same targets as `cargo clippy --all-targets`, so that no dependency is built again.
set -euo pipefail
cd "$(dirname "$0")/.."

most=$((8 * 1000 * 1000))
say() { printf 'check-package: %s\n' "$*" >&2; }

# A change that is not committed yet is checked, too.
files=$(cargo package --list --allow-dirty 2>/dev/null)
printf '%s\n' "$files"
if found=$(printf '%s\n' "$files" | grep -E '^(tests|fuzz|scripts|\.ci)/'); then
  say "these do not belong into the package:" && printf '%s\n' "$found" >&2
  exit 1
fi

rm -f target/package/kiln-ml-*.crate
cargo package --no-verify --allow-dirty 2>&1 | grep -v 'warning: ignoring test'
crate=$(echo target/package/kiln-ml-*.crate)
bytes=$(wc -c <"$crate")
say "$crate has $bytes bytes"
if [ "$bytes" -gt "$most" ]; then
  say "more than $most: leave files out (\`exclude\` in Cargo.toml)"
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -xzf "$crate" -C "$folder"
CARGO_TARGET_DIR=$PWD/target cargo check --profile checks --examples --benches --features full --manifest-path "$folder"/kiln-ml-*/Cargo.toml
