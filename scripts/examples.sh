#!/usr/bin/env bash
# Runs every example with `--quick`, one after the other, and prints the seconds that each took. Fails where one fails, takes more
# than five minutes, or writes no figures. Names as arguments: those alone.
set -euo pipefail
cd "$(dirname "$0")/.."

# Every program of examples/, but `soak`, which kills others for as long as it is told (`make soak`), and those that serve
# another check: `browser_losses` (`make test-web`) and `onnx` (`scripts/check_onnx.py`).
names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for path in examples/*.rs examples/*/main.rs; do
    name=${path#examples/}
    name=${name%/main.rs}
    name=${name%.rs}
    case "$name" in browser_losses | onnx | soak) ;; *) names+=("$name") ;; esac
  done
fi

build=()
for name in "${names[@]}"; do build+=(--example "$name"); done
profile=${PROFILE:-release}
cargo build --profile "$profile" --features full "${build[@]}"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
programs=${CARGO_TARGET_DIR:-target}/$profile/examples
failed=()
for name in "${names[@]}"; do
  options=(--quick --json "$out/$name.json")
  # Files that a program makes go beside its figures, if it asks where.
  if "$programs/$name" --help | grep -q -- '--out <DIR>'; then options+=(--out "$out/$name"); fi
  # Not where it keeps weights for good.
  if [ "$name" = train_cnn ]; then options+=(--out "$out/train_cnn.safetensors"); fi
  if [ "$name" = image_folder ]; then
    "$programs/$name" --make "$out/digits" >"$out/$name.log"
    options+=(--data-dir "$out/digits")
  fi
  began=$(date +%s%N)
  if timeout 300 "$programs/$name" "${options[@]}" >"$out/$name.log" 2>&1 && [ -s "$out/$name.json" ]; then
    result=$(tr -s ' \n' ' ' <"$out/$name.json" | cut -c -100)
  else
    result='FAILED'
    failed+=("$name")
    tail -n 20 "$out/$name.log" >&2
  fi
  tenths=$((($(date +%s%N) - began) / 100000000))
  printf '%4d.%d s  %-18s %s\n' $((tenths / 10)) $((tenths % 10)) "$name" "$result"
done
printf '%d examples in %d s, the build included\n' ${#names[@]} "$SECONDS"
if [ ${#failed[@]} -gt 0 ]; then
  echo "these failed: ${failed[*]}" >&2
  exit 1
fi
