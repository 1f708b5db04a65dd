#!/usr/bin/env python3
"""The program of examples/cifar_resnet.rs in PyTorch: the figure that it is held to.

scripts/cifar_resnet.py DIR [SEED]

DIR has data_batch_*.bin and test_batch.bin of CIFAR-10. Needs torch and numpy.
"""

import math
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

EPOCHS, BATCH, PEAK, DECAY, ALPHA = 2, 64, 0.1, 0.98, 0.2


def read(paths):
    rows = np.concatenate([np.fromfile(path, np.uint8).reshape(-1, 3073) for path in paths])
    mean = np.array([0.491, 0.482, 0.447], np.float32).reshape(1, 3, 1, 1)
    deviation = np.array([0.247, 0.243, 0.262], np.float32).reshape(1, 3, 1, 1)
    images = (rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255 - mean) / deviation
    return torch.tensor(images), torch.tensor(rows[:, 0].astype(np.int64))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.around = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return F.relu(self.around(x) + self.branch(x))


def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16, 16, 1),
        Block(16, 32, 2),
        Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )


def augmented(images, random):
    padded = F.pad(images, (4, 4, 4, 4))
    out = torch.empty_like(images)
    for i, image in enumerate(padded):
        top, left = random.integers(0, 9, 2)
        crop = image[:, top : top + 32, left : left + 32]
        out[i] = crop.flip(2) if random.random() < 0.5 else crop
    return out


def main():
    folder, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 42
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    images, labels = read(sorted(folder.glob("data_batch_*.bin")))
    test, test_labels = read([folder / "test_batch.bin"])
    net = network()
    # States are no average in the Rust program either: those of the running network go with the averaged weights.
    average = {name: p.detach().clone() for name, p in net.named_parameters()}
    per_epoch = math.ceil(len(images) / BATCH)
    steps, warm = EPOCHS * per_epoch, EPOCHS * per_epoch // 5
    sgd = torch.optim.SGD(net.parameters(), PEAK, momentum=0.9, nesterov=True, weight_decay=5e-4)
    step, began = 0, time.time()
    for epoch in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            rate = PEAK * 0.5 * (1 + math.cos(math.pi * step / steps)) * min(1, (step + 1) / (warm + 1))
            sgd.param_groups[0]["lr"] = rate
            x, y = augmented(images[chosen], random), F.one_hot(labels[chosen], 10).float()
            share, others = random.beta(ALPHA, ALPHA), torch.randperm(len(x))
            x, y = x * share + x[others] * (1 - share), y * share + y[others] * (1 - share)
            loss = F.cross_entropy(net(x), y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            decay = min(DECAY, (1 + step) / (10 + step))
            for name, p in net.named_parameters():
                average[name].lerp_(p.detach(), 1 - decay)
            step += 1
        kept = {name: p.detach().clone() for name, p in net.named_parameters()}
        with torch.no_grad():
            for name, p in net.named_parameters():
                p.copy_(average[name])
            net.eval()
            right = (torch.cat([net(part) for part in test.split(250)]).argmax(1) == test_labels).float().mean()
            for name, p in net.named_parameters():
                p.copy_(kept[name])
            net.train()
        print(f"epoch {epoch + 1}  test accuracy {right:.4f}  {time.time() - began:.0f} s", flush=True)


main()
