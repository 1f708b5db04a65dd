"""Writes ONNX's node tests, which the package `onnx` holds as programs, to a folder of models with inputs and outputs.

    python scripts/onnx_node_tests.py FOLDER
    KILN_ONNX_TESTS=FOLDER cargo test --profile checks --features full --test onnx -- --nocapture

A test is a folder: model.onnx, input_0.pb .., output_0.pb ... Forms that are expanded to other ops are left out.
"""

import pathlib
import sys

from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases


def packed(value, info):
    kind = info.type.WhichOneof("value")
    if isinstance(value, TensorProto):
        return value
    if kind == "sequence_type":
        return numpy_helper.from_list(value, info.name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, info.name)
    return numpy_helper.from_array(value, info.name)


def main():
    root = pathlib.Path(sys.argv[1])
    count = 0
    for case in collect_testcases():
        if "_expanded" in case.name:
            continue
        folder = root / case.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(case.model.SerializeToString())
        inputs, outputs = case.data_sets[0]
        for side, values, infos in [("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)]:
            for number, (value, info) in enumerate(zip(values, infos)):
                (folder / f"{side}_{number}.pb").write_bytes(packed(value, info).SerializeToString())
        count += 1
    print(f"{count} tests in {root}")


main()
