#!/usr/bin/env python3
"""How many images a second two ranks of one thread train on, beside one rank of one thread: runs of both in turn.

    scripts/ranks_speed.py --data-dir FOLDER      MNIST's four gzip IDX files are there
    scripts/ranks_speed.py                        the embedded digits, as large as MNIST's images, over and over

Each run is train_cnn on one epoch of the same images in batches of 64 for each rank, on a software driver that has one thread
(LP_NUM_THREADS=1), without the first step, which makes kernels. Prints the images a second of each run, and the ratio of the
medians with that of each pair. The machine should do nothing else. Wants Open MPI and libclang, which `make test-mpi` installs.
"""

import argparse
import gzip
import json
import os
import statistics
import struct
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TRAINED, TESTED = 1437, 360


def enlarged(pixels):
    """An image of 8x8 pixels of 17 grey levels as one of 28x28 bytes."""
    rows = [bytes(min(255, 16 * pixels[8 * (y * 8 // 28) + x * 8 // 28]) for x in range(28)) for y in range(28)]
    return b"".join(rows)


def make_data(folder, count):
    """MNIST's files, made of the embedded digits."""
    with gzip.open(os.path.join(ROOT, "src/data/digits.bin.gz")) as file:
        records = file.read()
    rows = [records[65 * i : 65 * (i + 1)] for i in range(TRAINED + TESTED)]
    images = [enlarged(row[1:]) for row in rows]
    os.makedirs(folder, exist_ok=True)
    for part, numbers in (("train", [i % TRAINED for i in range(count)]), ("t10k", range(TRAINED, TRAINED + TESTED))):
        length = len(numbers)
        with gzip.open(os.path.join(folder, f"{part}-images-idx3-ubyte.gz"), "wb", 1) as file:
            file.write(struct.pack(">4I", 2051, length, 28, 28) + b"".join(images[i] for i in numbers))
        with gzip.open(os.path.join(folder, f"{part}-labels-idx1-ubyte.gz"), "wb", 1) as file:
            file.write(struct.pack(">2I", 2049, length) + bytes(rows[i][0] for i in numbers))


def rate(ranks, args, folder, program):
    """Images a second that so many ranks train on in all."""
    figures = os.path.join(args.out, f"{ranks}.json")
    command = [program, "--data", "mnist", "--data-dir", folder, "--limit", str(args.images), "--epochs", "1"]
    command += ["--batch-size", str(args.batch_size), "--device", args.device, "--distributed"]
    command += ["--json", figures, "--out", os.path.join(args.out, "weights.safetensors")]
    if ranks > 1:
        mpirun = ["mpirun", "--oversubscribe", "--bind-to", "none", "--mca", "btl_vader_single_copy_mechanism", "none"]
        command = mpirun + ["-n", str(ranks)] + command
    # As root, as in containers, Open MPI wants these words.
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(command, env={**os.environ, **root, "LP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    with open(figures, encoding="utf-8") as file:
        told = json.load(file)
    images = told["images_per_s"] * told["train_s"] - ranks * args.batch_size
    return images / (told["train_s"] - told["first_step_s"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with MNIST's files")
    parser.add_argument("--images", type=int, default=12800, help="images of an epoch")
    parser.add_argument("--batch-size", type=int, default=64, help="images of a rank's batch")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind, in turn")
    parser.add_argument("--device", default="vulkan")
    parser.add_argument("--profile", default="release", help="profile of the build")
    parser.add_argument("--features", default="mpi")
    args = parser.parse_args()

    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    args.out = os.path.join(target, "ranks-speed")
    os.makedirs(args.out, exist_ok=True)
    build = ["cargo", "build", "--profile", args.profile, "--features", args.features, "--example", "train_cnn"]
    subprocess.run(build, cwd=ROOT, check=True)
    program = os.path.join(target, args.profile, "examples", "train_cnn")
    folder = args.data_dir
    if folder is None:
        folder = os.path.join(args.out, "digits")
        make_data(folder, args.images)

    rates = {1: [], args.ranks: []}
    for number in range(args.rounds):
        for ranks, all_rates in rates.items():
            all_rates.append(rate(ranks, args, folder, program))
        one, many = rates[1][-1], rates[args.ranks][-1]
        print(f"round {number + 1}  1 rank {one:8.1f} images/s, {args.ranks} ranks {many:8.1f}, ratio {many / one:.3f}", flush=True)
    one, many = (statistics.median(all_rates) for all_rates in rates.values())
    print(f"median   1 rank {one:8.1f} images/s, {args.ranks} ranks {many:8.1f}, ratio {many / one:.3f}")


if __name__ == "__main__":
    main()
