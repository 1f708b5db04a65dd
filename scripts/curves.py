#!/usr/bin/env python3
"""Makes the loss curves that Kiln's training is compared with.

    pip install torch numpy safetensors
    python3 scripts/curves.py tests/data/curves.safetensors

Three problems, each trained for 100 steps by SGD, Adam and AdamW from the same
start, on the CPU in float64. The stored file was made with the version of
PyTorch that its metadata entry `made_with` names.

    regression  y = 3 x1 + 2 x2 + noise: a linear layer `line` with a bias, mean
                square error, all 64 samples in each step
    sigmoid     3 inputs, 2 hidden units, 1 output, sigmoids after both layers
                `hidden` and `out`: whether two or more of three inputs are above
                0, mean square error, all 32 samples in each step
    digits      the digits that are embedded in Kiln, in their order, 64 in each
                step and from the front again after 1,408: a convolution `conv`
                3x3 with padding 1 to 4 channels, ReLU, maximum over 2x2, a
                linear layer `fc` to 10 classes, cross-entropy

The file
--------
    PROBLEM.x, PROBLEM.y     F32, samples and targets (not of the digits)
    PROBLEM.start.NAME       F32, the parameters before the first step, by Kiln's
                             names, which are PyTorch's
    PROBLEM.RULE             F64 [100], the loss of each step, before its update

The metadata entry `settings` is JSON: for each problem the arguments of
torch.optim by rule, `sgd`, `adam` and `adamw`.
"""

import gzip
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import nn

STEPS = 100
BATCH = 64
RULES = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
SETTINGS = {
    "regression": {
        "sgd": {"lr": 0.1, "momentum": 0.5},
        "adam": {"lr": 0.1, "betas": (0.8, 0.99)},
        "adamw": {"lr": 0.1, "weight_decay": 0.05},
    },
    "sigmoid": {
        "sgd": {"lr": 2.0, "momentum": 0.9},
        "adam": {"lr": 0.1, "weight_decay": 1e-3},
        "adamw": {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.05},
    },
    "digits": {
        "sgd": {"lr": 0.05, "momentum": 0.9, "nesterov": True},
        "adam": {"lr": 0.01},
        "adamw": {"lr": 0.01, "weight_decay": 0.1},
    },
}

tensors = {}


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(4 * 4 * 4, 10)

    def forward(self, x):
        return self.fc(nn.functional.max_pool2d(self.conv(x).relu(), 2).flatten(1))


class Sigmoids(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(3, 2)
        self.out = nn.Linear(2, 1)

    def forward(self, x):
        return self.out(self.hidden(x).sigmoid()).sigmoid()


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 1)

    def forward(self, x):
        return self.line(x)


def single(values):
    """Rounded to what float32 holds, in float64."""
    return torch.tensor(np.asarray(values, dtype=np.float32), dtype=torch.float64)


def store(name, values):
    tensors[name] = values.detach().numpy().astype(np.float32)


def digits():
    """The images and labels of the part to train on."""
    path = pathlib.Path(__file__).resolve().parent.parent / "src" / "data" / "digits.bin.gz"
    records = np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8).reshape(-1, 65)[:1437]
    return single(records[:, 1:] / 16).reshape(-1, 1, 8, 8), torch.tensor(records[:, 0].astype(np.int64))


def problem(name):
    """A model, and a function of the step that gives its loss."""
    rng = np.random.RandomState(7)
    if name == "digits":
        x, y = digits()
        first = lambda step: step % (len(x) // BATCH) * BATCH
        batch = lambda step: (x[first(step) :][:BATCH], y[first(step) :][:BATCH])
        return Cnn(), batch, nn.functional.cross_entropy
    if name == "regression":
        x = single(rng.uniform(-1, 1, (64, 2)))
        y = single(x.numpy() @ np.array([[3.0], [2.0]]) + rng.normal(0, 0.1, (64, 1)))
        model = Line()
    else:
        x = single(rng.uniform(-1, 1, (32, 3)))
        y = single(((x > 0).sum(1, keepdim=True) >= 2).double())
        model = Sigmoids()
    store(f"{name}.x", x)
    store(f"{name}.y", y)
    return model, lambda step: (x, y), nn.functional.mse_loss


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/curves.py tests/data/curves.safetensors")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name, rules in SETTINGS.items():
        torch.manual_seed(1)
        model, batch, measure = problem(name)
        model = model.double()
        start = {key: single(value.numpy()) for key, value in model.state_dict().items()}
        for key, value in start.items():
            store(f"{name}.start.{key}", value)
        for rule, settings in rules.items():
            model.load_state_dict(start)
            optimizer = RULES[rule](model.parameters(), **settings)
            losses = []
            for step in range(STEPS):
                x, y = batch(step)
                loss = measure(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            tensors[f"{name}.{rule}"] = np.array(losses)
            print(f"{name:10} {rule:6} {losses[0]:.4f} {losses[9]:.4f} {losses[-1]:.4f}")
    metadata = {"settings": json.dumps(SETTINGS), "made_with": f"PyTorch {torch.__version__}"}
    save_file(tensors, sys.argv[1], metadata=metadata)


if __name__ == "__main__":
    main()
