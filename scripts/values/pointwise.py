#!/usr/bin/env python3
"""Makes tests/data/values/pointwise.safetensors: pointwise functions,
activations, reductions and scans.

    python3 scripts/values/pointwise.py tests/data/values/pointwise.safetensors

../pytorch_values.py describes the file. The operations and their attrs:

Pointwise, one input x:
    sin cos tan asin acos atan sinh cosh asinh acosh atanh erfc rsqrt exp2 log2
    log10 floor ceil round trunc is_nan is_inf is_finite relu6 hardsigmoid
    hardswish mish selu softsign tanhshrink log_sigmoid     {}
    hardtanh         {"low": f, "high": f}
    celu             {"alpha": f}
    softshrink hardshrink  {"bound": f}
    threshold        {"bound": f, "value": f}
    softplus_with    {"beta": f, "threshold": f}
    glu              {"axis": i}
Pointwise, several inputs, which broadcast:
    atan2 fmod remainder hypot logaddexp prelu   {}
    lerp             x, end, weight   {}
    xor              I32, I32         {}
    bitwise_and bitwise_or bitwise_xor           {}    I32
Reductions, one input x:
    prod log_sum_exp {"axes": [i, ...], "keepdim": bool}
    norm             {"axes": [i, ...], "p": f or "inf" or "-inf"}
    std              {"axes": [i, ...], "correction": n}
    any all          {"axes": [i]}
    argmin           {"axis": i}
Scans, one input x:
    cumprod cummax cummin logcumsumexp           {"axis": i}
    cummax_index cummin_index                    {"axis": i}   output I32
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import pytorch_values as values  # noqa: E402
from pytorch_values import case, distinct, f32, generator, integers, normal, uniform  # noqa: E402

# name: function, low and high end of the data, gradients
UNARY = {
    "sin": (torch.sin, -20.0, 20.0),
    "cos": (torch.cos, -20.0, 20.0),
    "tan": (torch.tan, -1.3, 1.3),
    "asin": (torch.asin, -0.95, 0.95),
    "acos": (torch.acos, -0.95, 0.95),
    "atan": (torch.atan, -5.0, 5.0),
    "sinh": (torch.sinh, -4.0, 4.0),
    "cosh": (torch.cosh, -4.0, 4.0),
    "asinh": (torch.asinh, -6.0, 6.0),
    "acosh": (torch.acosh, 1.1, 6.0),
    "atanh": (torch.atanh, -0.95, 0.95),
    "erfc": (torch.erfc, -3.0, 4.0),
    "rsqrt": (torch.rsqrt, 0.1, 6.0),
    "exp2": (torch.exp2, -5.0, 5.0),
    "log2": (torch.log2, 0.1, 6.0),
    "log10": (torch.log10, 0.1, 6.0),
    "relu6": (F.relu6, -3.0, 9.0),
    "hardsigmoid": (F.hardsigmoid, -5.0, 5.0),
    "hardswish": (F.hardswish, -5.0, 5.0),
    "mish": (F.mish, -8.0, 8.0),
    "selu": (F.selu, -4.0, 4.0),
    "softsign": (F.softsign, -4.0, 4.0),
    "tanhshrink": (F.tanhshrink, -4.0, 4.0),
    "log_sigmoid": (F.logsigmoid, -8.0, 8.0),
}

# Without gradients: PyTorch's are zeros, Kiln has none.
ROUNDING = {
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
}

# name: op, attrs, function, points at which the derivative is a convention
KINKS = [
    ("relu6", {}, F.relu6, [0.0, 6.0, -1.0, 3.0]),
    ("hardtanh", {"low": -0.5, "high": 2.0}, lambda x: F.hardtanh(x, -0.5, 2.0), [-0.5, 2.0, 0.0, 3.0]),
    ("hardsigmoid", {}, F.hardsigmoid, [-3.0, 3.0, 0.0, 4.0]),
    ("hardswish", {}, F.hardswish, [-3.0, 3.0, 0.0, 4.0]),
    ("selu", {}, F.selu, [0.0, -1.0, 1.0, 0.0]),
    ("celu", {"alpha": 1.5}, lambda x: F.celu(x, 1.5), [0.0, -1.0, 1.0, -3.0]),
    ("softsign", {}, F.softsign, [0.0, -1.0, 1.0, 0.5]),
    ("softshrink", {"bound": 0.5}, lambda x: F.softshrink(x, 0.5), [0.5, -0.5, 0.0, 2.0, -2.0]),
    ("hardshrink", {"bound": 0.5}, lambda x: F.hardshrink(x, 0.5), [0.5, -0.5, 0.0, 2.0, -2.0]),
    ("threshold", {"bound": 0.5, "value": 2.0}, lambda x: F.threshold(x, 0.5, 2.0), [0.5, 0.25, 0.75, -2.0]),
]


def pointwise_cases():
    for op, (function, low, high) in UNARY.items():
        case(op, op, {}, [uniform(generator(op), (5, 7), low, high)], function)
    for op, function in ROUNDING.items():
        x = f32([0.5, -0.5, 1.5, 2.5, -2.5, 0.49, -0.51, 3.0, -7.9, 1e9])
        case(op, op, {}, [x], function, [0])
    for op, attrs, function, points in KINKS:
        case(f"{op}_kink", op, {**attrs, "kink": True}, [f32(points)], function)
    for op in ["relu6", "hardswish", "mish", "log_sigmoid"]:
        x = f32([15.0, -15.0, 21.0, -21.0, 50.0, -50.0, 90.0, -90.0])
        case(f"{op}_large", op, {}, [x], UNARY[op][0])
    x = normal(generator("celu"), (5, 7), 2.0)
    case("celu", "celu", {"alpha": 0.75}, [x], lambda x: F.celu(x, 0.75))
    case(
        "softplus_with",
        "softplus_with",
        {"beta": 2.0, "threshold": 5.0},
        [uniform(generator("softplus_with"), (5, 7), -6.0, 6.0)],
        lambda x: F.softplus(x, 2.0, 5.0),
    )
    for axis in [0, 2]:
        x = normal(generator(f"glu_{axis}"), (4, 3, 6))
        case(f"glu_{axis}", "glu", {"axis": axis}, [x], lambda x: F.glu(x, axis))

    binary = {
        "atan2": torch.atan2,
        "hypot": torch.hypot,
        "logaddexp": torch.logaddexp,
        "fmod": torch.fmod,
        "remainder": torch.remainder,
    }
    for op, function in binary.items():
        rng = generator(op)
        a, b = normal(rng, (3, 1, 5), 3.0), values.away_from_zero(rng, (4, 1))
        case(op, op, {}, [a, b], function)
    # On the axes, of either sign.
    sides = f32([0.0, 0.0, 1.0, -1.0, 0.0]), f32([1.0, -1.0, 0.0, 0.0, 0.0])
    case("atan2_axes", "atan2", {}, list(sides), torch.atan2)
    rng = generator("lerp")
    ends = [normal(rng, (3, 5)), normal(rng, (5,)), uniform(rng, (3, 1), -0.5, 1.5)]
    case("lerp", "lerp", {}, ends, torch.lerp)
    rng = generator("prelu")
    x, weight = f32([[0.0, -1.0, 2.0], [0.5, 0.0, -3.0]]), f32([0.25])
    case("prelu_kink", "prelu", {"kink": True}, [x, weight], F.prelu)
    case("prelu", "prelu", {}, [normal(rng, (2, 3, 5)), normal(rng, (3,))], F.prelu)

    rng = generator("bits")
    a, b = integers(rng, (4, 1), 1000), integers(rng, (5,), 1000)
    for op in ["bitwise_and", "bitwise_or", "bitwise_xor"]:
        case(op, op, {}, [a, b], getattr(torch, op))
    a, b = integers(rng, (7,), 2), integers(rng, (7,), 2)
    case("xor", "xor", {}, [a, b], torch.logical_xor)


def reduction_cases():
    for suffix, shape, axes, keepdim in [
        ("last", (3, 7), [1], False),
        ("first", (5, 3), [0], True),
        ("two", (3, 2, 4), [0, 2], False),
    ]:
        attrs = {"axes": axes, "keepdim": keepdim}

        def prod(x):
            for axis in sorted(axes, reverse=True):
                x = torch.prod(x, axis, keepdim)
            return x

        name = f"prod_{suffix}"
        case(name, "prod", attrs, [normal(generator(name), shape)], prod)
        name = f"log_sum_exp_{suffix}"
        x = normal(generator(name), shape, 3.0)
        case(name, "log_sum_exp", attrs, [x], lambda x: torch.logsumexp(x, axes, keepdim))
        for correction in [0, 1]:
            name = f"std_{suffix}_{correction}"
            case(
                name,
                "std",
                {"axes": axes, "correction": correction},
                [f32(normal(generator(name), shape) + 2.0)],
                lambda x: torch.std(x, axes, correction=correction),
            )
        for p in [0, 1, 2, 3, 0.5, -1.5, float("inf"), float("-inf")]:
            name = f"norm_{suffix}_{p}"
            x = distinct(generator(name), shape) + f32(1 / 64)
            case(
                name,
                "norm",
                {"axes": axes, "p": p if abs(p) != float("inf") else str(p)},
                [x],
                lambda x: torch.linalg.vector_norm(x, p, axes),
                [0] if p == 0 else [],
            )

    # A zero in a row, two, and none: the gradient of a product that divided would be NaN.
    x = f32([[1.5, 0.0, -2.0, 0.5], [0.0, 3.0, 0.0, 1.0], [1.0, 2.0, -1.0, 4.0]])
    case("prod_zeros", "prod", {"axes": [1], "keepdim": False, "kink": True}, [x], lambda x: torch.prod(x, 1))
    for p in [1, 2, 3, 1.5, float("inf")]:
        x = f32([[0.0, 0.0, 0.0], [0.0, 2.0, -1.0]])
        attrs = {"axes": [1], "p": p if p != float("inf") else "inf", "kink": True}
        case(f"norm_zeros_{p}", "norm", attrs, [x], lambda x: torch.linalg.vector_norm(x, p, 1))
    x = f32([[1.0, 1.0, 1.0], [1.0, 2.0, 4.0]])
    case("std_alike", "std", {"axes": [1], "correction": 1, "kink": True}, [x], lambda x: torch.std(x, 1))

    x = integers(generator("any"), (6, 5), 2)
    case("any", "any", {"axes": [1]}, [x], lambda x: torch.any(x, 1))
    case("all", "all", {"axes": [0]}, [x], lambda x: torch.all(x, 0))
    for axis in [0, 1]:
        x = distinct(generator(f"argmin_{axis}"), (5, 7))
        case(f"argmin_{axis}", "argmin", {"axis": axis}, [x], lambda x: torch.argmin(x, axis))


def scan_cases():
    for suffix, shape, axis in [("last", (3, 7), 1), ("first", (6, 4), 0), ("middle", (2, 5, 3), 1)]:
        attrs = {"axis": axis}
        name = f"cumprod_{suffix}"
        case(name, "cumprod", attrs, [normal(generator(name), shape)], lambda x: torch.cumprod(x, axis))
        name = f"logcumsumexp_{suffix}"
        x = normal(generator(name), shape, 3.0)
        case(name, "logcumsumexp", attrs, [x], lambda x: torch.logcumsumexp(x, axis))
        for op, function in {"cummax": torch.cummax, "cummin": torch.cummin}.items():
            name = f"{op}_{suffix}"
            # Few different values, so that many are equal.
            x = f32(generator(name).integers(-2, 3, shape))
            case(name, op, {**attrs, "kink": True}, [x], lambda x: function(x, axis)[0])
            case(f"{name}_index", f"{op}_index", attrs, [x], lambda x: function(x, axis)[1])
    x = f32([[1.5, 0.0, -2.0, 0.5, 3.0], [0.0, 3.0, 0.0, 1.0, 2.0]])
    case("cumprod_zeros", "cumprod", {"axis": 1, "kink": True}, [x], lambda x: torch.cumprod(x, 1))


def special_cases():
    x = f32(values.SPECIAL)
    for op, function in {
        # PyTorch's hardswish multiplies by 6 first, which overflows. Of two zeros WGSL's max may give either, in relu6.
        **{op: function for op, (function, _, _) in UNARY.items() if op not in ("hardswish", "relu6")},
        **ROUNDING,
        "is_nan": torch.isnan,
        "is_inf": torch.isinf,
        "is_finite": torch.isfinite,
    }.items():
        special(op, function, [x], ["special.x"])
    first, second = x.repeat(len(x)), f32(list(x) * len(x))
    for op, function in {
        "atan2": torch.atan2,
        "hypot": torch.hypot,
        "logaddexp": torch.logaddexp,
    }.items():
        special(op, function, [first, second], ["special.a", "special.b"])
    # PyTorch's vector code takes a denormal divisor for 0.
    is_denormal = (second != 0) & (abs(second) < 1e-37)
    first, second = first[~is_denormal], second[~is_denormal]
    for op, function in {"fmod": torch.fmod, "remainder": torch.remainder}.items():
        special(op, function, [first, second], ["special.dividend", "special.divisor"])


def special(op, function, arrays, names):
    for name, array in zip(names, arrays):
        values.store(name, array)
    result = function(*[values.to_tensor(array, torch.float32) for array in arrays])
    output = values.store(f"{op}_special.out0", values.to_array(result))
    values.add_case(f"{op}_special", op, {"special": True}, names, [output])


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/pointwise.py tests/data/values/pointwise.safetensors")
    values.prepare()
    pointwise_cases()
    reduction_cases()
    scan_cases()
    special_cases()
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
