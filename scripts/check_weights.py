#!/usr/bin/env python3
"""Checks in PyTorch that weights trained by Kiln give the logits Kiln computed.

    pip install torch numpy safetensors
    python3 scripts/check_weights.py model.safetensors logits.safetensors

The first file holds the weights under PyTorch's names: conv1.weight [out, in,
height, width], conv1.bias, conv2.weight, ... and fc1.weight [out, in], fc1.bias,
fc2.weight, ... or a single fc.weight and fc.bias. The second holds `images`
[n, channel, height, width] and `logits` [n, classes], as Kiln computed them with
dropout off.

The network is built from the names and the shapes of the weights: for each
convolution conv - relu - 2x2 max-pooling, with padding that keeps the size; then
flatten; then the linear layers with relu between them. Every tensor in the file
must have its place in the network.

The script computes the logits in float64 and prints the largest absolute
difference. It exits with 0 if that is at most 1e-4, otherwise with 1.
"""

import re
import sys

import torch
from safetensors.torch import load_file

TOLERANCE = 1e-4


def layer_names(weights, kind):
    """The names of the layers of a kind ("conv" or "fc"), in order."""
    pattern = re.compile(rf"({kind}(\d*))\.weight")
    found = [match for match in map(pattern.fullmatch, weights) if match]
    return [match[1] for match in sorted(found, key=lambda match: int(match[2] or 0))]


class Network(torch.nn.Module):
    """The network whose layers have the names and shapes of these weights."""

    def __init__(self, weights):
        super().__init__()
        self.convolutions = layer_names(weights, "conv")
        self.linears = layer_names(weights, "fc")
        if not self.linears:
            sys.exit("no fc.weight or fc1.weight among the weights: " + ", ".join(weights))
        for name in self.convolutions:
            outputs, inputs, height, width = weights[f"{name}.weight"].shape
            layer = torch.nn.Conv2d(
                inputs,
                outputs,
                (height, width),
                padding=(height // 2, width // 2),
                bias=f"{name}.bias" in weights,
            )
            self.add_module(name, layer)
        for name in self.linears:
            outputs, inputs = weights[f"{name}.weight"].shape
            layer = torch.nn.Linear(inputs, outputs, bias=f"{name}.bias" in weights)
            self.add_module(name, layer)

    def forward(self, x):
        for name in self.convolutions:
            x = torch.relu(self.get_submodule(name)(x))
            x = torch.nn.functional.max_pool2d(x, 2)
        x = x.flatten(1)
        for name in self.linears[:-1]:
            x = torch.relu(self.get_submodule(name)(x))
        return self.get_submodule(self.linears[-1])(x)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: python3 scripts/check_weights.py model.safetensors logits.safetensors")
    weights, expected = load_file(sys.argv[1]), load_file(sys.argv[2])

    network = Network(weights)
    network.load_state_dict(weights)  # refuses names or shapes that do not fit
    network.double().eval()
    for name, tensor in network.state_dict().items():
        print(f"{name:16} {list(tensor.shape)}")

    images, logits = expected["images"].double(), expected["logits"].double()
    if len(images) == 0:
        sys.exit(f"no images in {sys.argv[2]}")
    with torch.no_grad():
        computed = network(images)
    if computed.shape != logits.shape:
        sys.exit(f"logits {list(logits.shape)}, but the network gives {list(computed.shape)}")

    difference = (computed - logits).abs().max().item()
    same = (computed.argmax(1) == logits.argmax(1)).sum().item()
    print(f"images: {len(images)}, same class: {same}")
    print(f"largest absolute difference: {difference:.3e} (at most {TOLERANCE:.0e} allowed)")
    # Written so that a difference which is not a number fails, too.
    if not difference <= TOLERANCE:
        sys.exit(1)


if __name__ == "__main__":
    main()
