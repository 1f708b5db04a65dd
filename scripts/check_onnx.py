#!/usr/bin/env python3
"""Holds exported networks to onnx.checker, and their outputs in onnxruntime to Kiln's within 1e-5.

Needs the packages onnx, onnxruntime and numpy; without them it says so and is done.
"""

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
EXAMPLE = ["cargo", "run", "--profile", PROFILE, "--features", "full", "--example", "onnx", "--", "export"]


def check(folder, net):
    file, values = folder / f"{net}.onnx", folder / f"{net}.json"
    subprocess.run([*EXAMPLE, str(file), "--net", net, "--values", str(values)], check=True)
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    worst = 0.0
    for case in json.loads(values.read_text()):
        dtype = numpy.int64 if case["whole"] else numpy.float32
        x = numpy.array(case["input"], dtype=dtype).reshape(case["shape"])
        got = session.run(None, {name: x})[0]
        wanted = numpy.array(case["output"], dtype=numpy.float32).reshape(got.shape)
        worst = max(worst, float(numpy.abs(got - wanted).max()))
    print(f"{net}: {len(model.graph.node)} nodes, outputs off by {worst:.1e} at most")
    return worst <= 1e-5


with tempfile.TemporaryDirectory() as folder:
    results = [check(pathlib.Path(folder), net) for net in ("cnn", "transformer")]
sys.exit(0 if all(results) else 1)
