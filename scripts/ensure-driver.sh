#!/usr/bin/env bash
# Makes sure that the tests find a Vulkan driver and an EGL/GL driver (Mesa's software drivers will do).
# Exit status 0: both are there, perhaps because this script has just installed them. 1: not, and it says what to do.
set -euo pipefail

packages="mesa-vulkan-drivers libvulkan1 libegl1 libgl1-mesa-dri"
library_dirs="/usr/lib/*-linux-* /lib/*-linux-* /usr/lib64 /lib64 /usr/lib /lib /usr/local/lib /run/opengl-driver/lib"

say() { printf 'ensure-driver: %s\n' "$*" >&2; }

# Whether any of the arguments is a file: for patterns, which stay as they are where nothing matches.
any_file() {
  local path
  for path in "$@"; do
    if [ -e "$path" ]; then return 0; fi
  done
  return 1
}

# Whether the dynamic linker finds the library $1.
has_library() {
  # Not `| grep -q`, which would end ldconfig early and fail under pipefail.
  local known dir
  known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
  case "$known" in *"$1"*) return 0 ;; esac
  local IFS=$' \t\n:'
  for dir in ${LD_LIBRARY_PATH:-} $library_dirs; do
    if [ -e "$dir/$1" ]; then return 0; fi
  done
  return 1
}

# Whether a Vulkan driver is registered with the loader.
has_vulkan_manifest() {
  local IFS=: dir
  local named="${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}"
  if [ -n "$named" ]; then
    # Files or directories. The loader then looks nowhere else.
    for dir in $named; do
      if [ -f "$dir" ] || any_file "$dir"/*.json; then return 0; fi
    done
    return 1
  fi
  for dir in ${VK_ADD_DRIVER_FILES:-} ${XDG_CONFIG_HOME:-${HOME:-}/.config}/vulkan/icd.d ${XDG_CONFIG_DIRS:-/etc/xdg}/vulkan/icd.d \
    /etc/vulkan/icd.d /usr/local/etc/vulkan/icd.d ${XDG_DATA_HOME:-${HOME:-}/.local/share}/vulkan/icd.d \
    /usr/local/share/vulkan/icd.d /usr/share/vulkan/icd.d /run/opengl-driver/share/vulkan/icd.d; do
    if [ -f "$dir" ] || any_file "$dir"/*.json; then return 0; fi
  done
  return 1
}

has_vulkan() {
  has_library libvulkan.so.1 && has_vulkan_manifest || return 1
  # Where the tool is installed it has the last word: a registered driver may still not load.
  if command -v vulkaninfo >/dev/null 2>&1; then
    local summary
    summary=$(vulkaninfo --summary 2>/dev/null || true)
    case "$summary" in *deviceName*) ;; *) return 1 ;; esac
  fi
}

has_gl() {
  has_library libEGL.so.1 || return 1
  if has_library libEGL_nvidia.so.0; then return 0; fi
  # Mesa: one file a driver up to version 24, then one library for all.
  local IFS=$' \t\n:' dir
  for dir in ${LIBGL_DRIVERS_PATH:-} $library_dirs; do
    if any_file "$dir"/*_dri.so "$dir"/dri/*_dri.so "$dir"/libgallium*.so; then return 0; fi
  done
  return 1
}

# Sets `missing` to what is not there.
look() {
  missing=""
  if ! has_vulkan; then missing="a Vulkan driver"; fi
  if ! has_gl; then missing="${missing:+$missing and }an EGL/GL driver"; fi
}

# Runs the shell command $1 as root: directly, or with sudo once the user has agreed. Status 2: it was not run.
as_root() {
  say "+ $1"
  if [ "$(id -u)" -eq 0 ]; then
    DEBIAN_FRONTEND=noninteractive sh -c "$1"
  elif [ -t 0 ] && [ -t 2 ] && command -v sudo >/dev/null 2>&1; then
    local answer
    read -r -p "ensure-driver: run this with sudo? [y/N] " answer
    case "$answer" in
      y | Y | yes) sudo env DEBIAN_FRONTEND=noninteractive sh -c "$1" ;;
      *) say "nothing was installed"; return 2 ;;
    esac
  else
    say "run the command above as root, then try again"
    return 2
  fi
}

case "$(uname -s)" in
  Darwin) say "macOS brings Metal: nothing to install"; exit 0 ;;
  MINGW* | MSYS* | CYGWIN*) say "Windows brings DirectX 12: nothing to install"; exit 0 ;;
  Linux) ;;
  *) say "on $(uname -s): install Vulkan and EGL drivers by Mesa, then run \`cargo test --profile checks --features full\`"; exit 1 ;;
esac

look
if [ -z "$missing" ]; then exit 0; fi
say "missing: $missing"

named="${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}"
if [ -n "$named" ] && ! has_vulkan_manifest; then
  say "VK_DRIVER_FILES or VK_ICD_FILENAMES names only $named, where there is no driver: unset it, or correct it"
  exit 1
fi

if ! command -v apt-get >/dev/null 2>&1; then
  say "install Mesa's drivers with your system's packages:"
  say "  Fedora:   dnf install mesa-vulkan-drivers vulkan-loader mesa-libEGL mesa-dri-drivers"
  say "  Arch:     pacman -S vulkan-swrast vulkan-icd-loader mesa"
  say "  Alpine:   apk add mesa-vulkan-swrast vulkan-loader mesa-egl mesa-dri-gallium"
  say "  openSUSE: zypper install libvulkan_lvp libvulkan1 Mesa-libEGL1 Mesa-dri"
  say "macOS (Metal) and Windows (DirectX 12) need nothing"
  exit 1
fi

install="apt-get install -y --no-install-recommends $packages"
# Package lists may be missing (containers).
# shellcheck disable=SC2086
if ! apt-cache show --no-all-versions $packages >/dev/null 2>&1; then
  install="apt-get update && $install"
fi
status=0
as_root "$install" || status=$?
if [ "$status" -eq 2 ]; then exit 1; fi
if [ "$status" -ne 0 ]; then
  # The lists may be out of date: once more with new ones.
  case "$install" in
    "apt-get update"*) exit 1 ;;
    *) as_root "apt-get update && $install" || exit 1 ;;
  esac
fi

look
if [ -n "$missing" ]; then
  say "still missing after the installation: $missing"
  say "\`vulkaninfo --summary\` (package vulkan-tools) and \`eglinfo\` (mesa-utils) tell why"
  exit 1
fi
