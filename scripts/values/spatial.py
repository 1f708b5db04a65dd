#!/usr/bin/env python3
"""Makes values of convolutions, poolings, interpolations and what samples images.

    python3 scripts/values/spatial.py tests/data/values/spatial.safetensors

scripts/pytorch_values.py describes the form of the file. The operations and
their attrs, of inputs [batch, channel, ..] with one to three axes behind:

    conv             x, weight    {"stride", "padding", "dilation": [n, ..],
                                   "groups": n}
    conv_sides       x, weight    {"sides": [[before, after], ..] or "same",
                                   "stride", "dilation": [n, ..]}
    conv_transpose   x, weight    as conv, and {"output_padding": [n, ..]}
    max_pool, max_pool_places   x {"kernel", "stride", "padding", "dilation":
                                   [n, ..], "ceil": bool}
    adaptive_max_pool, adaptive_max_pool_places   x  {"size": [n, ..]}
    avg_pool         x            {"kernel", "stride", "padding": [n, ..],
                                   "ceil": bool, "count_include_pad": bool}
    adaptive_avg_pool             {"size": [n, ..]}
    lp_pool          x            {"p": f, "kernel", "stride": [n, ..],
                                   "ceil": bool}
    max_unpool       x, places    {"size": [n, ..]}
    interpolate      x            {"size": [n, ..] or "factors": [f, ..],
                                   "mode": PyTorch's, "align_corners": bool}
    unfold           x            {"kernel", "stride", "padding", "dilation"}
    fold             columns      the same, and {"size": [h, w]}
    pixel_shuffle, pixel_unshuffle, channel_shuffle   x    {"by": n}
    grid_sample      x, grid      {"mode", "padding_mode", "align_corners"}
    affine_grid      maps         {"size": [n, ..], "align_corners": bool}
    instance_norm    x, weight, bias                 {"eps": f}
    local_response_norm  x        {"size": n, "alpha", "beta", "k": f}
    normalize        x            {"p": f, "axis": n, "eps": f}
    cosine_similarity  a, b       {"axis": n, "eps": f}
    pairwise_distance  a, b       {"p": f, "eps": f}
    cdist            a, b         {"p": f}
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pytorch_values as values  # noqa: E402
from pytorch_values import case, distinct, generator, normal, uniform  # noqa: E402

CONV = [None, F.conv1d, F.conv2d, F.conv3d]
TRANSPOSED = [None, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d]
MAX_POOL = [None, F.max_pool1d, F.max_pool2d, F.max_pool3d]
AVG_POOL = [None, F.avg_pool1d, F.avg_pool2d, F.avg_pool3d]
LP_POOL = [None, F.lp_pool1d, F.lp_pool2d, F.lp_pool3d]
UNPOOL = [None, F.max_unpool1d, F.max_unpool2d, F.max_unpool3d]
ADAPTIVE_AVG = [None, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d]
ADAPTIVE_MAX = [None, F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d]


def conv_cases():
    for name, x, w, stride, padding, dilation, groups in [
        ("conv1d", (2, 4, 11), (6, 2, 3), [2], [2], [2], 2),
        ("conv3d", (2, 4, 4, 5, 6), (4, 2, 2, 3, 2), [2, 1, 2], [1, 0, 1], [1, 2, 1], 2),
    ]:
        rng = generator(name)
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        run = CONV[len(stride)]
        case(name, "conv", attrs, [normal(rng, x), normal(rng, w)],
             lambda x, w: run(x, w, None, stride, padding, dilation, groups))
    for name, x, w, stride, padding, more, dilation, groups in [
        ("conv_transpose1d", (2, 4, 5), (4, 3, 4), [3], [1], [2], [1], 2),
        ("conv_transpose1d_apart", (1, 2, 4), (2, 2, 3), [2], [1], [3], [4], 1),
        ("conv_transpose2d", (2, 2, 3, 4), (2, 3, 3, 2), [2, 1], [1, 0], [1, 0], [1, 2], 1),
        ("conv_transpose3d", (1, 2, 3, 2, 3), (2, 2, 2, 3, 2), [2, 1, 2], [0, 1, 1], [1, 0, 0], [1, 1, 2], 1),
    ]:
        rng = generator(name)
        attrs = {"stride": stride, "padding": padding, "output_padding": more, "dilation": dilation, "groups": groups}
        run = TRANSPOSED[len(stride)]
        case(name, "conv_transpose", attrs, [normal(rng, x), normal(rng, w)],
             lambda x, w: run(x, w, None, stride, padding, more, groups, dilation))
    rng = generator("conv_same")
    case("conv_same", "conv_sides", {"sides": "same", "stride": [1, 1], "dilation": [1, 3]},
         [normal(rng, (2, 3, 5, 7)), normal(rng, (2, 3, 2, 4))],
         lambda x, w: F.conv2d(x, w, padding="same", dilation=[1, 3]))
    rng = generator("conv_sides")
    case("conv_sides", "conv_sides", {"sides": [[3, 0]], "stride": [2], "dilation": [1]},
         [normal(rng, (2, 3, 8)), normal(rng, (2, 3, 3))],
         lambda x, w: F.conv1d(F.pad(x, (3, 0)), w, stride=2))


def pool_cases():
    for name, shape, kernel, stride, padding, dilation, ceil in [
        ("max_pool1d", (2, 3, 10), [3], [2], [1], [2], False),
        ("max_pool2d_rests", (2, 2, 6, 7), [3, 2], [2, 2], [1, 0], [1, 1], True),
        ("max_pool2d_dilated", (1, 2, 8, 9), [2, 3], [1, 2], [1, 1], [3, 2], True),
        ("max_pool3d", (1, 2, 4, 5, 6), [2, 3, 2], [1, 2, 2], [1, 1, 0], [1, 1, 2], False),
    ]:
        x = distinct(generator(name), shape)
        attrs = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "ceil": ceil}
        run = MAX_POOL[len(kernel)]
        # The places have no gradient: values and places are held by two cases.
        case(name, "max_pool", attrs, [x], lambda x: run(x, kernel, stride, padding, dilation, ceil))
        case(name + "_places", "max_pool_places", attrs, [x],
             lambda x: run(x, kernel, stride, padding, dilation, ceil, True)[1])
    for name, shape, size in [
        ("adaptive_max_pool1d", (2, 3, 11), [4]),
        ("adaptive_max_pool2d", (2, 2, 7, 3), [3, 5]),
        ("adaptive_max_pool3d", (1, 2, 3, 4, 5), [2, 1, 3]),
    ]:
        x = distinct(generator(name), shape)
        run = ADAPTIVE_MAX[len(size)]
        case(name, "adaptive_max_pool", {"size": size}, [x], lambda x: run(x, size))
        case(name + "_places", "adaptive_max_pool_places", {"size": size}, [x], lambda x: run(x, size, True)[1])
        name = name.replace("max", "avg")
        run = ADAPTIVE_AVG[len(size)]
        case(name, "adaptive_avg_pool", {"size": size}, [x], lambda x: run(x, size))
    for name, shape, kernel, stride, padding, ceil, count in [
        ("avg_pool1d", (2, 3, 10), [3], [2], [1], True, False),
        ("avg_pool2d_rests", (2, 2, 6, 7), [3, 2], [2, 2], [1, 1], True, True),
        ("avg_pool2d_inside", (2, 2, 6, 8), [3, 3], [2, 3], [1, 1], True, False),
        ("avg_pool3d", (1, 2, 4, 5, 6), [2, 3, 2], [1, 2, 2], [1, 1, 0], False, True),
    ]:
        x = normal(generator(name), shape)
        attrs = {"kernel": kernel, "stride": stride, "padding": padding, "ceil": ceil, "count_include_pad": count}
        run = AVG_POOL[len(kernel)]
        case(name, "avg_pool", attrs, [x], lambda x: run(x, kernel, stride, padding, ceil, count))
    for name, p, shape, kernel, stride, ceil in [
        ("lp_pool1d", 2.0, (2, 3, 11), [3], [2], True),
        ("lp_pool2d", 3.0, (2, 2, 6, 7), [3, 2], [2, 2], False),
        ("lp_pool3d", 1.5, (1, 2, 4, 4, 5), [2, 2, 3], [2, 1, 2], False),
    ]:
        x = uniform(generator(name), shape, 0.1, 2.0)
        attrs = {"p": p, "kernel": kernel, "stride": stride, "ceil": ceil}
        run = LP_POOL[len(kernel)]
        argument = (lambda of: of[0]) if len(kernel) == 1 else (lambda of: of)
        case(name, "lp_pool", attrs, [x], lambda x: run(x, p, argument(kernel), argument(stride), ceil))
    for name, shape in [("max_unpool1d", (2, 3, 9)), ("max_unpool2d", (2, 2, 5, 6)), ("max_unpool3d", (1, 2, 4, 5, 2))]:
        axes = len(shape) - 2
        x = torch.from_numpy(distinct(generator(name), shape))
        pooled, places = MAX_POOL[axes](x, 2, 2, return_indices=True)
        run = UNPOOL[axes]
        size = list(shape[2:])
        case(name, "max_unpool", {"size": size}, [pooled.numpy(), places.numpy().astype("int32")],
             lambda x, places: run(x, places, 2, 2, output_size=size))


def interpolate_cases():
    modes = {
        1: ["nearest", "nearest-exact", "linear", "area"],
        2: ["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
        3: ["nearest", "nearest-exact", "trilinear", "area"],
    }
    shapes = {1: (2, 2, 7), 2: (1, 2, 5, 6), 3: (1, 2, 3, 4, 3)}
    sizes = {1: [12], 2: [8, 4], 3: [5, 3, 4]}
    factors = {1: [1.7], 2: [2.0, 0.6], 3: [1.5, 0.7, 2.0]}
    for axes, names in modes.items():
        for mode in names:
            linear = mode in ("linear", "bilinear", "trilinear", "bicubic")
            for corners in [False, True] if linear else [None]:
                ends = "_corners" if corners else ""
                name = f"interpolate{axes}d_{mode}{ends}"
                x = normal(generator(name), shapes[axes])
                attrs = {"mode": mode, "align_corners": bool(corners)}
                case(name, "interpolate", {"size": sizes[axes], **attrs}, [x],
                     lambda x: F.interpolate(x, size=sizes[axes], mode=mode, align_corners=corners))
                case(name + "_by", "interpolate", {"factors": factors[axes], **attrs}, [x],
                     lambda x: F.interpolate(x, scale_factor=factors[axes], mode=mode, align_corners=corners))


def sample_cases():
    for mode in ["bilinear", "nearest"]:
        for padding in ["zeros", "border", "reflection"]:
            for corners in [False, True]:
                name = f"grid_sample_{mode}_{padding}" + ("_corners" if corners else "")
                rng = generator(name)
                attrs = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                inputs = [normal(rng, (2, 2, 4, 5)), uniform(rng, (2, 3, 4, 2), -2.3, 2.3)]
                case(name, "grid_sample", attrs, inputs,
                     lambda x, grid: F.grid_sample(x, grid, mode, padding, corners),
                     [1] if mode == "nearest" else [])
    for name, shape, size in [("affine_grid", (2, 2, 3), [2, 1, 4, 5]), ("affine_grid3d", (1, 3, 4), [1, 1, 2, 3, 4])]:
        for corners in [False, True]:
            full = name + ("_corners" if corners else "")
            case(full, "affine_grid", {"size": size, "align_corners": corners}, [normal(generator(full), shape)],
                 lambda maps: F.affine_grid(maps, size, corners))


def rearranged_cases():
    options = {"kernel": [3, 2], "stride": [2, 1], "padding": [1, 1], "dilation": [1, 2]}
    case("unfold", "unfold", options, [normal(generator("unfold"), (2, 2, 5, 6))],
         lambda x: F.unfold(x, [3, 2], [1, 2], [1, 1], [2, 1]))
    case("fold", "fold", {"size": [5, 6], **options}, [normal(generator("fold"), (2, 12, 18))],
         lambda x: F.fold(x, [5, 6], [3, 2], [1, 2], [1, 1], [2, 1]))
    case("pixel_shuffle", "pixel_shuffle", {"by": 2}, [normal(generator("pixel_shuffle"), (2, 8, 2, 3))],
         lambda x: F.pixel_shuffle(x, 2))
    case("pixel_unshuffle", "pixel_unshuffle", {"by": 2}, [normal(generator("pixel_unshuffle"), (2, 2, 4, 6))],
         lambda x: F.pixel_unshuffle(x, 2))
    # Without a gradient in PyTorch.
    case("channel_shuffle", "channel_shuffle", {"by": 3}, [normal(generator("channel_shuffle"), (2, 6, 2, 2))],
         lambda x: F.channel_shuffle(x, 3), [0])


def norm_cases():
    rng = generator("instance_norm")
    case("instance_norm", "instance_norm", {"eps": 1e-5},
         [normal(rng, (2, 3, 4, 5)), normal(rng, (3,)), normal(rng, (3,))],
         lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-5))
    for size in [3, 4]:
        name = f"local_response_norm_{size}"
        attrs = {"size": size, "alpha": 0.5, "beta": 0.75, "k": 1.5}
        case(name, "local_response_norm", attrs, [normal(generator(name), (2, 6, 3, 2))],
             lambda x: F.local_response_norm(x, size, 0.5, 0.75, 1.5))
    for p, axis in [(2.0, 1), (1.0, 0), (3.0, 2), (float("inf"), 1)]:
        name = f"normalize_{p:g}"
        case(name, "normalize", {"p": "inf" if p == float("inf") else p, "axis": axis, "eps": 1e-12},
             [normal(generator(name), (3, 5, 4))], lambda x: F.normalize(x, p, axis))
    rng = generator("cosine_similarity")
    case("cosine_similarity", "cosine_similarity", {"axis": 1, "eps": 1e-8},
         [normal(rng, (4, 7)), normal(rng, (4, 7))], lambda a, b: F.cosine_similarity(a, b, 1, 1e-8))
    for p in [1.0, 2.0, 3.5]:
        name = f"pairwise_distance_{p:g}"
        rng = generator(name)
        case(name, "pairwise_distance", {"p": p, "eps": 1e-6}, [normal(rng, (4, 7)), normal(rng, (1, 7))],
             lambda a, b: F.pairwise_distance(a, b, p, 1e-6))
        name = f"cdist_{p:g}"
        rng = generator(name)
        case(name, "cdist", {"p": p}, [normal(rng, (2, 4, 5)), normal(rng, (2, 3, 5))],
             lambda a, b: torch.cdist(a, b, p))


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/spatial.py tests/data/values/spatial.safetensors")
    values.prepare()
    # The gradients of some interpolations, poolings and samplings add up in no fixed order on GPUs: not here.
    torch.use_deterministic_algorithms(False)
    conv_cases()
    pool_cases()
    interpolate_cases()
    sample_cases()
    rearranged_cases()
    norm_cases()
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
