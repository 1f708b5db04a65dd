#!/usr/bin/env python3
"""Makes the values of attention and products that Kiln's tests compare with.

    pip install torch numpy safetensors
    python3 scripts/values/products.py tests/data/values/products.safetensors

The form of the file is described in scripts/pytorch_values.py. The operations:

    attention_with   queries, keys, values, mask (may be absent; I32: true where
                     a query sees a key), lengths (I32, may be absent)
                     {"causal": bool, "scale": f or null, "grouped": bool,
                      "window": [left, right] or null, "cap": f or null,
                      "mask": bool, "lengths": bool}
    einsum           one or more       {"equation": text}
    tensordot        a, b              {"axes": [i, ...], "others": [i, ...]}
    bmm mv dot inner kron              a, b     {}
    trace            x                 {}
    cross            a, b              {"axis": i}
    matrix_power     x                 {"power": n}

Windows, caps and lengths are no arguments in PyTorch: a window and lengths are a
mask there, and a cap is written out.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from pytorch_values import case, generator, integers, normal, prepare, write


def shown(queries, keys, attrs, lengths):
    """What a query sees by its window, the lengths and causality."""
    row = torch.arange(queries)[:, None]
    column = torch.arange(keys)[None, :]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if attrs["causal"]:
        seen &= column <= row
    if attrs["window"]:
        left, right = attrs["window"]
        seen &= (column >= row - left) & (column <= row + right)
    if lengths is not None:
        seen = seen & (column < lengths[:, None, None, None])
    return seen


def attention_cases():
    usual = {
        "causal": False,
        "scale": None,
        "grouped": False,
        "window": None,
        "cap": None,
        "mask": False,
        "lengths": False,
    }

    def attention(name, sizes, heads=(2, 2), mask=None, **changes):
        attrs = {**usual, **changes}
        queries, keys, features, values = sizes
        label = f"attention_with_{name}"
        rng = generator(label)
        inputs = [
            normal(rng, (2, heads[0], queries, features)),
            normal(rng, (2, heads[1], keys, features)),
            normal(rng, (2, heads[1], keys, values)),
        ]
        if mask == "bool":
            flags = integers(rng, (2, 1, queries, keys), 2)
            flags[..., 0] = 1
            inputs.append(flags)
        elif mask == "float":
            inputs.append(normal(rng, (heads[0], queries, keys)))
        if attrs["lengths"]:
            inputs.append((integers(rng, (2,), keys - 1) + 1).astype("int32"))
        attrs["mask"] = mask is not None

        def apply(q, k, v, *rest):
            rest = list(rest)
            given = rest.pop(0) if mask else None
            lengths = rest.pop(0) if attrs["lengths"] else None
            seen = shown(queries, keys, attrs, lengths)
            if mask == "bool":
                seen = seen & given.bool()
            if attrs["cap"] is None and mask != "float":
                return F.scaled_dot_product_attention(
                    q, k, v, attn_mask=seen, scale=attrs["scale"], enable_gqa=attrs["grouped"]
                )
            scale = attrs["scale"] or features**-0.5
            scores = q @ k.transpose(-2, -1) * scale
            if attrs["cap"] is not None:
                scores = attrs["cap"] * torch.tanh(scores / attrs["cap"])
            if mask == "float":
                scores = scores + given
            return torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ v

        case(label, "attention_with", attrs, inputs, apply)

    attention("plain", (5, 7, 4, 3))
    attention("causal", (7, 7, 4, 4), causal=True)
    attention("window", (9, 9, 4, 3), window=[2, 1])
    attention("grouped", (5, 6, 4, 4), heads=(4, 2), grouped=True, scale=0.7)
    attention("capped", (5, 7, 4, 3), cap=1.5, causal=True)
    attention("lengths", (5, 8, 4, 3), lengths=True)
    attention("bool", (5, 7, 4, 3), mask="bool")
    attention("float", (5, 7, 4, 3), mask="float")


def product_cases():
    def product(name, op, attrs, shapes, function):
        rng = generator(name)
        case(name, op, attrs, [normal(rng, shape) for shape in shapes], function)

    for k, (equation, *shapes) in enumerate(
        [
            ("ij,jk->ik", (3, 5), (5, 4)),
            ("bij,bjk->bik", (2, 3, 5), (2, 5, 4)),
            ("...ij,jk->k...i", (2, 3, 4, 5), (5, 2)),
            ("...i,...i", (2, 1, 5), (3, 5)),
            ("ii", (4, 4)),
            ("iji->ji", (4, 3, 4)),
            ("ij->ji", (3, 5)),
            ("ij->", (3, 5)),
            ("i,j", (3,), (4,)),
            ("bn,anm,bm->ba", (2, 5), (3, 5, 4), (2, 4)),
            ("ab,bc,cd,de->ea", (2, 3), (3, 4), (4, 2), (2, 5)),
            ("ij,ij->i", (3, 1), (3, 5)),
            ("bhqd, bhkd -> bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
            ("aA,Ab", (2, 3), (3, 4)),
        ]
    ):
        product(
            f"einsum_{k}",
            "einsum",
            {"equation": equation},
            shapes,
            lambda *x, equation=equation: torch.einsum(equation, *x),
        )
    product(
        "tensordot",
        "tensordot",
        {"axes": [0, 2], "others": [2, 0]},
        [(3, 5, 4), (4, 2, 3)],
        lambda a, b: torch.tensordot(a, b, dims=([0, 2], [2, 0])),
    )
    product(
        "tensordot_none",
        "tensordot",
        {"axes": [], "others": []},
        [(3, 2), (4,)],
        lambda a, b: torch.tensordot(a, b, dims=0),
    )
    for name, shapes in {
        "bmm": [(2, 3, 5), (2, 5, 4)],
        "mv": [(3, 5), (5,)],
        "dot": [(5,), (5,)],
        "inner": [(2, 3, 5), (4, 5)],
        "kron": [(3, 2), (2, 2, 4)],
    }.items():
        product(name, name, {}, shapes, getattr(torch, name))
    product("trace", "trace", {}, [(4, 3)], torch.trace)
    product("trace_wide", "trace", {}, [(2, 5)], torch.trace)
    product(
        "cross", "cross", {"axis": 1}, [(2, 3, 4), (1, 3, 4)], lambda a, b: torch.linalg.cross(a, b, dim=1)
    )
    for power in [1, 5]:
        product(
            f"matrix_power_{power}",
            "matrix_power",
            {"power": power},
            [(2, 3, 3)],
            lambda x, power=power: torch.linalg.matrix_power(x, power),
        )


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/products.py tests/data/values/products.safetensors")
    prepare()
    attention_cases()
    product_cases()
    write(sys.argv[1])


if __name__ == "__main__":
    main()
