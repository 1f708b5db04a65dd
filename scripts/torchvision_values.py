#!/usr/bin/env python3
"""Makes the values that tests/data_loading/torchvision.rs compares with.

    pip install torch torchvision numpy safetensors
    python3 scripts/torchvision_values.py tests/data/torchvision.safetensors

One float image [3, 11, 14] (`image`), and what torchvision's functions make of
it, each under the name that the test has for it; batches of sound and its
spectrogram by torch.stft. The stored file was made with torchvision 0.29.
"""

import math
import sys

import torch
from safetensors.torch import save_file
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F


def main():
    random = torch.Generator().manual_seed(20)
    image = torch.rand(3, 11, 14, generator=random)
    # A few pixels without a hue, and the ends of the range.
    image[:, 0, 0], image[:, 0, 1], image[:, 0, 2] = 0.0, 1.0, 0.5
    large = torch.rand(1, 37, 53, generator=random)
    bilinear = InterpolationMode.BILINEAR
    corners = [[0, 0], [13, 0], [13, 10], [0, 10]]
    moved = [[1, 2], [12, 1], [11, 9], [2, 10]]
    values = {
        "image": image,
        "large": large,
        "resize_larger": F.resize(image, [19, 23], antialias=True),
        "resize_smaller": F.resize(large, [7, 11], antialias=True),
        "resize_mixed": F.resize(large, [41, 5], antialias=True),
        "resize_shorter": F.resize(large, 13, antialias=True),
        "centre_crop": F.center_crop(image, [6, 9]),
        "flip_horizontal": F.horizontal_flip(image),
        "flip_vertical": F.vertical_flip(image),
        "pad": F.pad(image, [2], fill=0.25),
        "rotate": F.rotate(image, 30, bilinear),
        "affine": F.affine(image, 20, [2, -1], 1.2, [10, 5], bilinear),
        "perspective": F.perspective(image, corners, moved, bilinear),
        "grey": F.rgb_to_grayscale(image, 3),
        "one_channel": F.rgb_to_grayscale(image, 1),
        "brightness": F.adjust_brightness(image, 1.4),
        "contrast": F.adjust_contrast(image, 1.5),
        "saturation": F.adjust_saturation(image, 0.4),
        "hue": F.adjust_hue(image, 0.2),
        "hue_back": F.adjust_hue(image, -0.4),
        "gamma": F.adjust_gamma(image, 1.7),
        "invert": F.invert(image),
        "solarize": F.solarize(image, 0.6),
        "posterize": F.posterize(image, 3),
        "autocontrast": F.autocontrast(0.2 + 0.5 * image),
        "equalize": F.equalize(large.repeat(1, 4, 4)),
        "sharpness": F.adjust_sharpness(image, 1.8),
        "blur": F.gaussian_blur(image, [5, 5], [1.3, 1.3]),
        "normalise": F.normalize(image, [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]),
        "erase": F.erase(image, 2, 3, 4, 5, torch.tensor(0.5)),
    }
    sound = torch.rand(1000, generator=random) - 0.5
    window = torch.hann_window(256)
    spectrum = torch.stft(sound, 256, 100, window=window, center=True, pad_mode="reflect", return_complex=True)
    values["sound"] = sound
    values["spectrogram"] = spectrum.abs() ** 2
    # Triangles on the mel scale of HTK, without further scaling.
    mel = lambda hertz: 2595.0 * math.log10(1.0 + hertz / 700.0)
    points = torch.linspace(mel(0.0), mel(4000.0), 12)
    hertz = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    bins = torch.linspace(0, 4000.0, 129)
    up = (bins[None] - hertz[:-2, None]) / (hertz[1:-1] - hertz[:-2])[:, None]
    down = (hertz[2:, None] - bins[None]) / (hertz[2:] - hertz[1:-1])[:, None]
    values["mel"] = torch.minimum(up, down).clamp(min=0) @ values["spectrogram"]
    save_file({name: value.contiguous().float() for name, value in values.items()}, sys.argv[1])


main()
