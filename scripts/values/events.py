#!/usr/bin/env python3
"""Messages of an event file, as TensorBoard's own classes write them.

    pip install tensorboard
    python3 scripts/values/events.py tests/data/events.bin

Each message has its length in front, 4 bytes with the lowest first. Times are
0. `tests/records.rs` writes the same with Kiln and compares the bytes. Stored
with TensorBoard 2.21.
"""

import sys

from google.protobuf import struct_pb2
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2



def event(step, value):
    summary = summary_pb2.Summary(value=[value])
    return event_pb2.Event(step=step, summary=summary)


def metadata(plugin, content=b""):
    data = summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin, content=content)
    return summary_pb2.SummaryMetadata(plugin_data=data)


def hparams(tag, **content):
    data = plugin_data_pb2.HParamsPluginData(**content).SerializeToString(deterministic=True)
    return event(0, summary_pb2.Summary.Value(tag=tag, metadata=metadata("hparams", data)))


def messages():
    yield event_pb2.Event(file_version="brain.Event:2")
    yield event(7, summary_pb2.Summary.Value(tag="train/loss", simple_value=0.1))
    yield event(300, summary_pb2.Summary.Value(tag="train/loss", simple_value=float("inf")))
    width = 4.0 / 30
    limits = [-1.0 + i * width if i < 30 else 3.0 for i in range(1, 31)]
    counts = [0.0] * 30
    for value in (-1.0, 0.25, 0.5, 3.0):
        counts[min(int((value + 1.0) / width), 29)] += 1
    histogram = summary_pb2.HistogramProto(
        min=-1.0,
        max=3.0,
        num=4.0,
        sum=2.75,
        sum_squares=10.3125,
        bucket_limit=limits,
        bucket=counts,
    )
    yield event(7, summary_pb2.Summary.Value(tag="weights", histo=histogram))
    tensor = tensor_pb2.TensorProto(
        dtype="DT_STRING",
        tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)]),
        string_val=["naïve".encode()],
    )
    yield event(7, summary_pb2.Summary.Value(tag="note", tensor=tensor, metadata=metadata("text")))
    infos = [
        api_pb2.HParamInfo(name="adam", type=api_pb2.DATA_TYPE_BOOL),
        api_pb2.HParamInfo(name="lr", type=api_pb2.DATA_TYPE_FLOAT64),
        api_pb2.HParamInfo(name="net", type=api_pb2.DATA_TYPE_STRING),
    ]
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag="validation/loss"))]
    yield hparams("_hparams_/experiment", experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics))
    values = {
        "adam": struct_pb2.Value(bool_value=True),
        "lr": struct_pb2.Value(number_value=0.5),
        "net": struct_pb2.Value(string_value="cnn"),
    }
    yield hparams("_hparams_/session_start_info", session_start_info=plugin_data_pb2.SessionStartInfo(hparams=values))
    yield event_pb2.Event(step=8, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: python3 {sys.argv[0]} FILE")
    with open(sys.argv[1], "wb") as file:
        for message in messages():
            text = message.SerializeToString(deterministic=True)
            file.write(len(text).to_bytes(4, "little") + text)


if __name__ == "__main__":
    main()
