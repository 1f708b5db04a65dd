#!/usr/bin/env python3
"""Exports the network of every example program that has one, and holds the files to onnx.checker and to onnxruntime, whose outputs
must be Kiln's within 1e-5 of their size: at batches of 1, 3 and 64, and two lengths where there is a length.

    python scripts/check_onnx.py [NAME ..]

Needs the packages onnx, onnxruntime and numpy; without them it says so and is done.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as missing:
    print(f"not checked: {missing}")
    sys.exit(0)

PROFILE = os.environ.get("PROFILE", "release")
PROGRAMS = [
    "autoencoder", "char_gpt", "char_lstm", "cifar_resnet", "dqn_cartpole", "gan", "keywords", "lora", "ppo_cartpole", "recommender",
    "tiny_mlp", "train_cnn", "translation",
]
# Ops that must be in the file, whole.
WHOLE = {"char_lstm": ["LSTM"], "char_gpt": ["LayerNormalization", "Gelu"], "keywords": ["BatchNormalization"],
         "translation": ["LayerNormalization"], "gan": ["ConvTranspose", "BatchNormalization"]}


def options(name, folder, file):
    if name in ("cnn", "transformer"):
        return ["onnx", "export", str(file), "--net", name, "--values", f"{file}.json"]
    out = folder / "train_cnn.safetensors" if name == "train_cnn" else folder
    return [name, "--quick", "--onnx", str(file), "--out", str(out)]


def check(folder, programs, name):
    file = folder / f"{name}.onnx"
    program, *rest = options(name, folder, file)
    run = subprocess.run([programs / program, *rest], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # How much a quick run learns is not judged here.
    if not pathlib.Path(f"{file}.json").exists():
        print(f"{name}: no file\n{run.stdout[-2000:]}")
        return False
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    worst, cases = 0.0, json.loads(pathlib.Path(f"{file}.json").read_text())
    for case in cases:
        def array(values):
            return numpy.array(values["values"], numpy.int64 if values["whole"] else numpy.float32).reshape(values["shape"])

        got = session.run(None, dict(zip(names, map(array, case["inputs"]))))
        for mine, wanted in zip(got, map(array, case["outputs"])):
            assert mine.shape == wanted.shape, (name, mine.shape, wanted.shape)
            worst = max(worst, float((numpy.abs(mine - wanted) / numpy.maximum(numpy.abs(wanted), 1.0)).max()))
    counts = collections.Counter(node.op_type for node in model.graph.node)
    lacks = [op for op in WHOLE.get(name, []) if op not in counts]
    print(f"{name}: {len(model.graph.node)} nodes, {len(cases)} batches and lengths, outputs off by {worst:.1e} at most", *lacks)
    return worst <= 1e-5 and not lacks


def main():
    names = sys.argv[1:] or ["cnn", "transformer", *PROGRAMS]
    examples = {"onnx" if name in ("cnn", "transformer") else name for name in names}
    build = [word for name in sorted(examples) for word in ("--example", name)]
    subprocess.run(["cargo", "build", "--profile", PROFILE, "--features", "full", *build], check=True)
    programs = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")) / PROFILE / "examples"
    with tempfile.TemporaryDirectory() as folder:
        results = [check(pathlib.Path(folder), programs.resolve(), name) for name in names]
    sys.exit(0 if all(results) else 1)


main()
