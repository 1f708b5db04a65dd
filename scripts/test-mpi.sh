#!/usr/bin/env bash
# Ranks over MPI on this machine: the bits of one rank, and mishaps that end all of them in time.
#
# Installs Open MPI and libclang on Debian where they are missing: at once as root, else by sudo, which asks. Exit
# status 77: they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! { command -v mpirun && command -v mpicc && ls /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so*; } >/dev/null 2>&1; then
  if ! command -v apt-get >/dev/null; then
    echo 'this needs an MPI with its headers and compiler wrappers (Open MPI or MPICH), and libclang' >&2
    exit 77
  fi
  sudo=''
  [ "$(id -u)" = 0 ] || sudo=sudo
  if ! { $sudo apt-get update -qq && $sudo apt-get install -y --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev; }; then
    echo 'test-mpi: libopenmpi-dev, openmpi-bin and libclang-dev cannot be installed' >&2
    exit 77
  fi
fi

cargo build --profile checks --features full,mpi --example distributed --example train_cnn
target=${CARGO_TARGET_DIR:-target}/checks/examples
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# More ranks than cores, as root in containers, and no network but the machine's own.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
flags=(--oversubscribe --bind-to none --mca btl self,vader,tcp --mca btl_vader_single_copy_mechanism none)
# Each rank's driver has threads of its own.
export LP_NUM_THREADS=1

on() {
  local ranks=$1
  shift
  timeout 120 mpirun "${flags[@]}" -n "$ranks" "$@"
}

fail() {
  printf 'failed: %s\n' "$1" >&2
  [ -z "${2-}" ] || cat "$2" >&2
  exit 1
}

bits() {
  grep '^bits' "$1" | cut -c10-
}

# Equal bits: 1 to 4 ranks, and one that accumulates.
steps=${STEPS:-12}
for settings in '--rule adamw' '--rule muon' '--rule adamw --mixed' '--rule muon --mixed'; do
  for ranks in 1 2 3 4; do
    # shellcheck disable=SC2086
    "$target/distributed" --steps "$steps" --micro-batches "$ranks" $settings >"$out/one"
    # shellcheck disable=SC2086
    on "$ranks" "$target/distributed" --steps "$steps" $settings >"$out/all" 2>"$out/error" || fail "$ranks ranks, $settings" "$out/error"
    [ "$(bits "$out/one")" = "$(bits "$out/all")" ] || fail "$ranks ranks have other bits than one, $settings" "$out/all"
    echo "equal    $ranks ranks, $settings: $(bits "$out/all")"
  done
done

# Messages in pieces, micro-batches in order.
on 2 "$target/distributed" --steps 5 --micro-batches 4 --in-order --piece 1000 >"$out/all"
"$target/distributed" --steps 5 --micro-batches 4 >"$out/one"
[ "$(bits "$out/one")" = "$(bits "$out/all")" ] || fail 'messages in pieces have other bits' "$out/all"
echo 'equal    2 ranks of 2 micro-batches in order, messages in pieces of 1000 bytes'

# Buckets that are sent while the backward pass goes on.
on 3 "$target/distributed" --steps 5 --buckets 1000 8000 >"$out/all"
"$target/distributed" --steps 5 --micro-batches 3 >"$out/one"
[ "$(bits "$out/one")" = "$(bits "$out/all")" ] || fail 'gradients in buckets have other bits' "$out/all"
echo 'equal    3 ranks whose gradients are sent in buckets'

# Batch normalisation over ranks: near to one rank with the whole batch, and the same in each run.
loss() {
  grep '^loss' "$1" | cut -c10-
}
on 2 "$target/distributed" --steps 5 --sync-batch-norm >"$out/all"
on 2 "$target/distributed" --steps 5 --sync-batch-norm >"$out/again"
[ "$(bits "$out/again")" = "$(bits "$out/all")" ] || fail 'two runs with batches normalised as one differ' "$out/all"
on 2 "$target/distributed" --steps 5 >"$out/apart"
[ "$(loss "$out/apart")" != "$(loss "$out/all")" ] || fail 'batches that are normalised as one change nothing' "$out/all"
echo "repeats  2 ranks whose batches are normalised as one: loss $(loss "$out/all"), apart $(loss "$out/apart")"

# Mishaps: a rank's end is everyone's, within ten seconds, with its words.
mishap() {
  local what=$1 words=$2 longest=600
  [ "$what" != silence ] || longest=2
  local began=$SECONDS
  if on 3 "$target/distributed" --steps 50 --longest "$longest" --mishap "1:6:$what" >"$out/all" 2>"$out/error"; then
    fail "a mishap ($what) of rank 1 ended well" "$out/all"
  fi
  grep -q -- "$words" "$out/error" || fail "a mishap ($what) was not told by \`$words\`" "$out/error"
  # Starting three drivers, some steps, and the end.
  [ $((SECONDS - began)) -le 30 ] || fail "a mishap ($what) took $((SECONDS - began)) s"
  echo "ended    all ranks by $what, $((SECONDS - began)) s after their start"
}
mishap error 'a mishap at step 6'
mishap panic 'a mishap at step 6'
mishap silence 'rank 1: it has not answered for 2 s'
mishap end 'exiting improperly'
began=$SECONDS
if on 2 "$target/distributed" --steps 5 --mishap 1:0:model >"$out/all" 2>"$out/error"; then
  fail 'ranks with other models went on' "$out/all"
fi
grep -q 'rank 1: it has parameter one more' "$out/error" || fail 'another model was not named' "$out/error"
echo "ended    all ranks by another model, $((SECONDS - began)) s after their start"

if mpirun "${flags[@]}" -n 1 "$target/distributed" --steps 5 : -n 1 "$target/distributed" --steps 5 --device nosuch >"$out/all" 2>"$out/error"; then
  fail 'a rank without a device went on' "$out/all"
fi
grep -q 'nosuch' "$out/error" || fail 'a rank without a device was not told' "$out/error"
echo 'ended    all ranks by one without a device'

# A launcher of another MPI: its ranks are one each, and none may train by itself.
if OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_RANK=1 timeout 120 "$target/distributed" --steps 5 >"$out/all" 2>"$out/error"; then
  fail 'one rank of three trained by itself' "$out/all"
fi
grep -q 'rank 1: it was started as one of 3, and MPI has 1' "$out/error" || fail 'another size was not told' "$out/error"
echo 'refused  a rank of three that MPI finds alone'

# A rank that is killed.
mpirun "${flags[@]}" -n 3 "$target/distributed" --steps 100000 >"$out/all" 2>"$out/error" &
launcher=$!
sleep 6
began=$SECONDS
kill -KILL "$(pgrep -P "$launcher" -x distributed | tail -1)"
if wait "$launcher"; then fail 'a run went on without a rank'; fi
[ $((SECONDS - began)) -le 10 ] || fail "the end of a rank took $((SECONDS - began)) s"
grep -q 'signal 9' "$out/error" || fail 'a kill was not told' "$out/error"
echo "ended    all ranks $((SECONDS - began)) s after one was killed"

# The trainer: a checkpoint of four ranks goes on with two. SIGTERM saves once.
train=("$target/train_cnn" --distributed --batch-size 32 --limit 256 --out "$out/weights")
on 4 "${train[@]}" --epochs 2 --max-steps 3 --accumulate 4 --checkpoint "$out/four" >"$out/all"
on 2 "${train[@]}" --epochs 2 --accumulate 4 --resume "$out/four" >"$out/all" || fail 'two ranks do not go on' "$out/all"
grep -q 'test accuracy' "$out/all" || fail 'no accuracy' "$out/all"
[ "$(grep -c 'test accuracy' "$out/all")" = 1 ] || fail 'more than one rank prints' "$out/all"
echo 'resumed  a fit of 4 ranks with 2'
mpirun "${flags[@]}" -n 2 "${train[@]}" --epochs 100000 --checkpoint "$out/stopped" >"$out/all" 2>"$out/error" &
launcher=$!
sleep 8
kill -TERM "$(pgrep -P "$launcher" -x train_cnn | tail -1)"
wait "$launcher" || fail 'a fit that was asked to stop failed' "$out/error"
grep -q 'stopped after' "$out/all" || fail 'a fit that was asked to stop did not' "$out/all"
[ -s "$out/stopped" ] || fail 'a fit that was asked to stop saved nothing'
echo 'stopped  a fit of 2 ranks by SIGTERM, with its checkpoint'
echo "all well in $SECONDS s"
