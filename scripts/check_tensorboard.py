#!/usr/bin/env python3
"""Reads a folder of event files with TensorBoard's own reader, and says what is in it.

    pip install tensorboard
    python3 scripts/check_tensorboard.py FOLDER

It exits with 1 if a record is damaged (its checksums tell), or if the folder
has no scalars. Without the package it says so and exits with 0.
"""

import pathlib
import sys

try:
    from tensorboard.backend.event_processing import event_accumulator, event_file_loader
except ImportError:
    print("skipped: the package tensorboard is not there")
    sys.exit(0)


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: python3 {sys.argv[0]} FOLDER")
    files = sorted(pathlib.Path(sys.argv[1]).glob("*tfevents*"))
    if not files:
        sys.exit(f"{sys.argv[1]}: no event files")
    for path in files:
        # Stops at the first record whose checksums are wrong; then bytes are left.
        events = list(event_file_loader.RawEventFileLoader(str(path)).Load())
        length = sum(len(event) + 16 for event in events)
        if length != path.stat().st_size:
            sys.exit(f"{path}: {length} of {path.stat().st_size} bytes are whole records")
        print(f"{path.name}: {len(events)} records")

    reader = event_accumulator.EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "images": 0, "histograms": 0})
    reader.Reload()
    tags = reader.Tags()
    for tag in tags["scalars"]:
        points = reader.Scalars(tag)
        print(f"scalar     {tag}: {len(points)} points, the last {points[-1].value:.6g} at step {points[-1].step}")
    for tag in tags["histograms"]:
        last = reader.Histograms(tag)[-1].histogram_value
        print(f"histogram  {tag}: {last.num:.0f} values from {last.min:.4g} to {last.max:.4g}")
    for tag in tags["images"]:
        image = reader.Images(tag)[-1]
        print(f"image      {tag}: {image.width}x{image.height}, {len(image.encoded_image_string)} bytes")
    for tag in tags["tensors"]:
        print(f"text       {tag}: {reader.Tensors(tag)[-1].tensor_proto.string_val[0].decode()[:60]!r}")
    # Summaries that hold nothing but settings.
    try:
        hparams = reader.PluginTagToContent("hparams")
    except KeyError:
        hparams = {}
    from tensorboard.plugins.hparams import metadata

    for tag, content in hparams.items():
        if tag == metadata.SESSION_START_INFO_TAG:
            settings = metadata.parse_session_start_info_plugin_data(content).hparams
            shown = ", ".join(f"{name}={settings[name].WhichOneof('kind')}" for name in sorted(settings))
            print(f"settings   {shown}")
    if not tags["scalars"]:
        sys.exit("no scalars")


if __name__ == "__main__":
    main()
