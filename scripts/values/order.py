#!/usr/bin/env python3
"""Makes tests/data/values/order.safetensors: sorting, indexing and what moves elements, by PyTorch.

    python3 scripts/values/order.py tests/data/values/order.safetensors
"""

import pathlib
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from pytorch_values import case, generator, normal, prepare, write  # noqa: E402


def distinct(name, shape):
    """Numbers that are all different, in random order."""
    count = int(np.prod(shape))
    order = generator(name).permutation(count)
    return ((order - count / 2 + 0.25) / 8).astype(np.float32).reshape(shape)


def below(name, shape, bound):
    return generator(name + ".index").integers(0, bound, shape).astype(np.int32)


def sort_cases():
    for axis, descending in [(0, False), (1, True)]:
        name = f"sort_{axis}_{int(descending)}"
        case(name, "sort", {"axis": axis, "descending": descending}, [distinct(name, (5, 7))],
             lambda x: torch.sort(x, dim=axis, descending=descending, stable=True)[0])
    ties = np.float32([[2, 1, 2, 1, 1], [0, -0.0, 3, -0.0, 0]])
    for descending in [False, True]:
        case(f"argsort_{int(descending)}", "argsort", {"axis": 1, "descending": descending}, [ties],
             lambda x: torch.sort(x, dim=1, descending=descending, stable=True)[1])
    for largest in [False, True]:
        name = f"topk_{int(largest)}"
        case(name, "topk", {"k": 3, "axis": 0, "largest": largest}, [distinct(name, (7, 4))],
             lambda x: torch.topk(x, 3, dim=0, largest=largest)[0])
    case("kthvalue", "kthvalue", {"k": 3, "axis": 1}, [distinct("kthvalue", (4, 7))], lambda x: torch.kthvalue(x, 3, dim=1)[0])
    for count in [6, 7]:
        name = f"median_{count}"
        case(name, "median", {"axis": 1}, [distinct(name, (3, count))], lambda x: torch.median(x, dim=1)[0])
    for mode in ["linear", "lower", "higher", "nearest", "midpoint"]:
        name = f"quantile_{mode}"
        for q in [0.3, 0.5, 1.0]:
            case(f"{name}_{q}", "quantile", {"q": q, "axis": 0, "mode": mode}, [distinct(name, (8, 3))],
                 lambda x: torch.quantile(x, q, dim=0, interpolation=mode))


def scatter_cases():
    base, source = normal(generator("scatter"), (5, 4)), normal(generator("scatter.source"), (3, 4))
    once = np.int32([[4, 0, 1, 2], [0, 1, 2, 3], [1, 3, 0, 4]])
    case("scatter", "scatter", {"axis": 0}, [base, once, source], lambda x, i, s: x.scatter(0, i, s))
    case("scatter_value", "scatter_value", {"axis": 0, "value": 1.5}, [base, once], lambda x, i: x.scatter(0, i, 1.5))
    many, more = below("scatter", (9, 3), 5), distinct("scatter.more", (10, 4))
    case("scatter_add", "scatter_add", {"axis": 0}, [base, many, normal(generator("scatter.add"), (9, 3))],
         lambda x, i, s: x.scatter_add(0, i, s))
    for reduction in ["sum", "prod", "mean", "amax", "amin"]:
        for with_self in [True, False]:
            # The gradient of a product of this tensor's own element is undefined there where it is 0.
            case(f"scatter_reduce_{reduction}_{int(with_self)}", "scatter_reduce",
                 {"axis": 0, "reduction": reduction, "with_self": with_self}, [base, many, more[:9, :3].copy()],
                 lambda x, i, s: x.scatter_reduce(0, i, s, reduction, include_self=with_self))
    ties = np.float32([[1, 2, 1], [2, 2, 1], [1, 1, 1], [2, 1, 2], [1, 2, 2], [1, 1, 2], [2, 2, 1], [1, 2, 2], [2, 1, 1]])
    for reduction in ["amax", "amin"]:
        case(f"scatter_ties_{reduction}", "scatter_reduce", {"axis": 0, "reduction": reduction, "with_self": True},
             [np.ones((5, 4), np.float32), many, ties], lambda x, i, s: x.scatter_reduce(0, i, s, reduction))
    factors = ties.copy()
    factors[::4] = 0
    case("scatter_zeros", "scatter_reduce", {"axis": 0, "reduction": "prod", "with_self": True},
         [base, many, factors], lambda x, i, s: x.scatter_reduce(0, i, s, "prod"))
    places, slices = below("index", (6,), 4), normal(generator("index.slices"), (5, 6))
    wide = normal(generator("index"), (5, 4))
    case("index_add", "index_add", {"axis": 1}, [wide, places, slices], lambda x, i, s: x.index_add(1, i, s))
    case("index_copy", "index_copy", {"axis": 1}, [wide, np.int32([2, 0, 3]), slices[:, :3].copy()],
         lambda x, i, s: x.index_copy(1, i, s))
    case("index_fill", "index_fill", {"axis": 1, "value": -2.0}, [wide, np.int32([2, 0, 2])],
         lambda x, i: x.index_fill(1, i, -2.0))
    mask = np.int32([[1], [0], [1], [0], [0]])
    case("masked_fill", "masked_fill", {"value": 0.5}, [wide, mask], lambda x, m: x.masked_fill(m.bool(), 0.5))
    case("bincount", "bincount", {"bins": 5}, [below("bincount", (23,), 5)], lambda x: torch.bincount(x, minlength=5))
    case("bincount_weighted", "bincount_weighted", {"bins": 6},
         [below("bincount", (23,), 5), normal(generator("bincount"), (23,))],
         lambda x, w: torch.zeros(6, dtype=w.dtype).index_add(0, x, w))
    case("one_hot", "one_hot", {"classes": 5}, [below("one_hot", (3, 4), 5)], lambda x: F.one_hot(x, 5))


def move_cases():
    x = normal(generator("move"), (4, 5))
    for offset in [-2, 0, 1]:
        case(f"tril_{offset}", "tril", {"offset": offset}, [x], lambda x: torch.tril(x, offset))
        case(f"triu_{offset}", "triu", {"offset": offset}, [x], lambda x: torch.triu(x, offset))
        case(f"diagonal_{offset}", "diagonal", {"offset": offset}, [x], lambda x: torch.diagonal(x, offset))
        case(f"diag_{offset}", "diag", {"offset": offset}, [x[0].copy()], lambda x: torch.diag(x, offset))
    case("identity", "identity", {"rows": 3, "columns": 5}, [x], lambda x: torch.eye(3, 5, dtype=torch.float64))
    for first, last, count in [(-1.0, 2.0, 7), (3.0, 3.5, 1), (0.0, 1.0, 12), (5.0, -5.0, 5)]:
        case(f"linspace_{count}", "linspace", {"first": first, "last": last, "count": count}, [x],
             lambda x: torch.linspace(first, last, count, dtype=torch.float64))
    case("flip", "flip", {"axes": [0, 1]}, [x], lambda x: torch.flip(x, (0, 1)))
    for by in [-3, 2, 11]:
        case(f"roll_{by}", "roll", {"axis": 1, "by": by}, [x], lambda x: torch.roll(x, by, 1))
    case("tile", "tile", {"times": [2, 1, 3]}, [x], lambda x: torch.tile(x, (2, 1, 3)))
    case("repeat_interleave", "repeat_interleave", {"axis": 1, "times": 3}, [x],
         lambda x: torch.repeat_interleave(x, 3, dim=1))
    a, b = normal(generator("grid.a"), (3,)), normal(generator("grid.b"), (4,))
    case("meshgrid", "meshgrid", {}, [a, b], lambda a, b: list(torch.meshgrid(a, b, indexing="ij")))
    case("outer", "outer", {}, [a, b], torch.outer)
    case("slice_step", "slice_step", {"axis": 1, "start": -4, "end": 5, "step": 2}, [x], lambda x: x[:, -4:5:2])
    image = normal(generator("pad"), (2, 3, 4, 5))
    for mode in ["constant", "reflect", "replicate", "circular"]:
        value = {"value": 1.5} if mode == "constant" else {}
        case(f"pad_{mode}", "pad_with", {"mode": mode, "pairs": [0, 0, 0, 0, 2, 1, 3, 0]}, [image],
             lambda x: F.pad(x, (3, 0, 2, 1), mode=mode, **value))


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/order.py tests/data/values/order.safetensors")
    prepare()
    sort_cases()
    scatter_cases()
    move_cases()
    write(sys.argv[1])


if __name__ == "__main__":
    main()
