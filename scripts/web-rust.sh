# To be sourced: finds a Rust that compiles for browsers, or returns 1. It is that on the PATH where rustup has installed the target;
# else Debian's (rustc-web, cargo-web, rust-web-src, lld), which has the library as sources: `std_options` has it compiled along.

std_options=()
debian_sources=/usr/lib/rustlib/src/rust/library
if ! ls "$(rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null)"/libstd-*.rlib >/dev/null 2>&1; then
  if [ ! -x /usr/bin/rustc ] || [ ! -x /usr/bin/cargo ] || [ ! -d "$debian_sources" ] || [ ! -x /usr/bin/wasm-ld ]; then
    return 1
  fi
  export PATH=/usr/bin:$PATH RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld
  std_options=(-Zbuild-std=std,panic_abort)
fi
