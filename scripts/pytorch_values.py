#!/usr/bin/env python3
"""Makes the reference values that Kiln's tests compare with.

Every value comes from PyTorch, computed on the CPU in float64 (the special
values in float32). All of them go into one safetensors file:

    pip install torch numpy safetensors
    python3 scripts/pytorch_values.py tests/data/pytorch.safetensors

The stored file was made with PyTorch 2.15. The data are seeded by the name of
each case, so adding a case leaves the others as they are. The scripts in
scripts/values/ make more files of this form for tests/data/values/: each calls
`prepare`, `case` for each of its cases, and `write`.

The file
--------
The metadata entry `cases` is a JSON list. Each case is an object:

    name        unique name of the case, for example "conv2d_stride2"
    op          the operation, one of those listed below
    attrs       an object with the attributes of the operation
    inputs      names of the input tensors, in order
    outputs     names of the output tensors, in order
    cotangents  names of the upstream gradients, one for each output; an empty
                list where the case has no gradients
    gradients   one entry for each input: the name of the gradient, that is the
                vector-Jacobian product with the cotangents, or null

Element types: float inputs and cotangents are F32; float outputs and gradients
are F64 (F32 in the cases with attrs.special); integers, labels, indices and
booleans (0 or 1) are I32. A scalar has the shape []. A tensor may serve several
cases.

The operations and their attrs
------------------------------
Axes count from zero and are never negative. [h, w] is a pair for the two image
axes. Images are [batch, channel, height, width].

Pointwise, one input x:
    exp log sqrt abs neg recip expm1 log1p relu gelu gelu_tanh silu sigmoid tanh
    softplus         {}
    leaky_relu       {"slope": f}
    elu              {"alpha": f}
    clamp            {"low": f, "high": f}
  gelu is the one with erf, gelu_tanh its tanh approximation. softplus is
  ln(1 + e^x), taken as x itself above 20.
Pointwise, inputs a and b, which broadcast against each other:
    add sub mul div pow minimum maximum    {}
    eq ne lt le gt ge                      {}   output I32, no gradients
  The gradient for the exponent of pow_negative_base is null.
Pointwise, inputs condition (I32), a, b, which broadcast:
    where            {}
  Two keys may be added to the attrs of a pointwise operation:
    "kink": true     the data hold points where the derivative is a convention
                     (x = 0, a bound of clamp, a tie of minimum or maximum).
                     Here: relu, abs: 0 at 0; leaky_relu: slope at 0; elu:
                     alpha at 0; clamp: 0 at its bounds; minimum, maximum: half
                     of the gradient to each side of a tie.
    "special": true  nan, inf, -inf, 0, -0, 1e-40, -1e-40, 3.4e38, -3.4e38, 1,
                     -1 (two inputs: all 121 pairs), outputs F32, no gradients.
                     Hardware that flushes denormal numbers to zero differs for
                     1e-40 and -1e-40 and where the result is denormal. The
                     last bits may differ, too. gelu, gelu_tanh and silu give
                     nan for -inf.

Reductions, one input x; without keepdim the axes are removed:
    sum mean max min {"axes": [i, ...], "keepdim": bool}
    argmax           {"axes": [i], "keepdim": bool}   output I32, no gradients
    var              {"axes": [i, ...], "keepdim": bool, "correction": 0 or 1}
  The data of max, min and argmax have no ties.

Shapes:
    expand           x            {"shape": [n, ...]}
    reshape          x            {"shape": [n, ...]}
    permute          x            {"axes": [i, ...]}
    slice            x            {"axis": i, "start": n, "len": n}
    concat           two or more  {"axis": i}
    stack            two or more  {"axis": i}    the new axis of the output
    split            x            {"axis": i, "sizes": [n, ...]}   one output
                                                 for each size
    pad              x            {"pads": [[before, after], ...], "value": f}
                                                 one pair for each axis
    gather           x, index     {"axis": i}    index has the output's shape
    index_select     x, index     {"axis": i}    index is a vector

Products:
    matmul           a, b         {"transpose_a": bool, "transpose_b": bool}
                                  the last two axes are the matrices, those
                                  before them broadcast; a transposed operand is
                                  stored with its last two axes exchanged
    linear           x, weight [out, in], bias [out] (may be absent)    {}
    conv2d           x, weight [out, in / groups, h, w], bias [out] (may be
                     absent)      {"stride": [h, w], "padding": [h, w],
                                   "dilation": [h, w], "groups": n}

Pooling, one input x:
    max_pool2d       {"kernel": [h, w], "stride": [h, w], "padding": [h, w]}
    avg_pool2d       the same and {"count_include_pad": true}
  max_pool2d pads with -inf and its data have no ties.

Normalisation:
    layer_norm       x, weight, bias (both may be absent)     {"dims": n, "eps": f}
    rms_norm         x, weight                  {"dims": n, "eps": f}
    group_norm       x, weight, bias            {"groups": n, "eps": f}
    batch_norm       x, weight, bias            {"eps": f}      as in training
    batch_norm_with  x, mean, variance, weight, bias            {"eps": f}
    batch_norm_running          x, running mean, running variance
                                                {"momentum": f}
  Outputs of the last: the two after one forward pass in training.

Transformers:
    embedding        table [rows, features], index [..]
                                  {"padding": i or null}   that row of the
                                  table gets no gradient
    attention        queries [.., q, f], keys [.., k, f], values [.., k, v],
                     mask (may be absent; I32: true where a query sees a key)
                                  {"causal": bool, "scale": f or null}
    multi_head_attention   x [batch, length, features], then the weight and bias
                     of the first projection, those of the last
                                  {"heads": n, "causal": bool}

Losses:
    softmax          x                          {"axis": i}
    log_softmax      x                          {"axis": i}
    cross_entropy    logits [n, classes], labels [n] (I32)
                                                {"reduction": "mean" or "sum"}
    cross_entropy_with  logits [n, classes], labels [n] (I32) or probabilities
                     [n, classes], weights of the classes [classes] (may be
                     absent)      {"label_smoothing": f, "ignore": i or null,
                                   "reduction": "mean", "sum" or "none"}
  The weights get no gradient.
    mse_loss         x, target                  {"reduction": "mean"}

Initial values (no inputs, no gradients):
    eye              {"shape": [rows, columns]}
    dirac            {"shape": [out, in, kernel..], "groups": n}
    calculate_gain   {"nonlinearity": name, "slope": f or null}   a scalar

Optimisers:
    sgd              {"lr": f, "momentum": f, "nesterov": bool,
                      "weight_decay": f, "dampening": 0.0,
                      "steps": [1, 2, 10, 100]}
    adamw            {"lr": f or null, "beta1": f, "beta2": f, "eps": f,
                      "weight_decay": f, "steps": [1, 2, 10, 100]}
  Inputs: the parameter [7] and the gradients of the 100 steps [100, 7]; where
  lr is null, a third input [100] holds the learning rate of each step. Output:
  the parameter after each of attrs.steps, [4, 7]. No gradients.

    clip_grad_norm   {"max_norm": f, "eps": 1e-6}
  Inputs: three gradients. Outputs: the three clipped gradients, then their norm
  before clipping (a scalar). The factor is min(1, max_norm / (norm + eps)). No
  gradients.

Training:
    cnn_losses       {"batch": 16, "batches": 5, "steps": 20, "lr": 1e-3,
                      "beta1": 0.9, "beta2": 0.999, "eps": 1e-8,
                      "weight_decay": 1e-2,
                      "parameters": ["conv1.weight", ...]}
  conv1 (1 -> 8, 3x3, padding 1), relu, 2x2 max-pooling, conv2 (8 -> 16, 3x3,
  padding 1), relu, 2x2 max-pooling, flatten, fc (64 -> 10); cross-entropy
  (mean), AdamW. Inputs: images [80, 1, 8, 8], labels [80], then the initial
  parameters in the order of attrs.parameters; those tensors carry the plain
  names conv1.weight, conv1.bias, conv2.weight, conv2.bias, fc.weight, fc.bias.
  Step t, from zero, takes the rows from 16 * (t % 5) up to 16 * (t % 5) + 16.
  Outputs: the losses [20], each from before its step's update; the logits
  [16, 10] of the first batch before training; then the parameters after
  training, in the order of attrs.parameters. No gradients.
"""

import json
import sys
import zlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.numpy import save_file

SPECIAL = [
    float("nan"), float("inf"), float("-inf"), 0.0, -0.0,
    1e-40, -1e-40, 3.4e38, -3.4e38, 1.0, -1.0,
]  # fmt: skip
STEPS = [1, 2, 10, 100]

tensors = {}
cases = []


def generator(name):
    """A random generator for the case of this name."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def f32(values):
    return np.asarray(values, dtype=np.float32)


def normal(rng, shape, scale=1.0):
    return f32(rng.standard_normal(shape) * scale)


def uniform(rng, shape, low, high):
    return f32(rng.uniform(low, high, shape))


def away_from_zero(rng, shape):
    """Values of both signs between 0.5 and 2 in size."""
    return f32(rng.uniform(0.5, 2.0, shape) * rng.choice([-1.0, 1.0], shape))


def distinct(rng, shape):
    """Values without ties, at least 1/16 apart, in random order."""
    count = int(np.prod(shape))
    return f32((rng.permutation(count) - count // 2) / 16.0).reshape(shape)


def integers(rng, shape, high):
    return rng.integers(0, high, shape).astype(np.int32)


def store(name, array):
    """Stores an array and returns its name; arrays of the same name must agree."""
    array = np.array(array, order="C")
    if name in tensors:
        assert tensors[name].tobytes() == array.tobytes(), name
    tensors[name] = array
    return name


def to_array(tensor):
    """Converts a result: floats as they are, integers and booleans to I32."""
    array = tensor.detach().numpy()
    return array if array.dtype.kind == "f" else array.astype(np.int32)


def to_tensor(array, dtype=torch.float64):
    if array.dtype.kind == "f":
        return torch.from_numpy(array.copy()).to(dtype)
    return torch.from_numpy(array.astype(np.int64))


def add_case(name, op, attrs, inputs, outputs, cotangents=(), gradients=None):
    """Describes a case whose tensors are stored already (all given by name)."""
    assert all(case["name"] != name for case in cases), name
    if gradients is None:
        gradients = [None] * len(inputs)
    cases.append(
        {
            "name": name,
            "op": op,
            "attrs": attrs,
            "inputs": list(inputs),
            "outputs": list(outputs),
            "cotangents": list(cotangents),
            "gradients": list(gradients),
        }
    )


def case(name, op, attrs, inputs, function, without_gradient=()):
    """Runs a function in float64 and stores its outputs and gradients.

    `without_gradient` gives the positions of float inputs that get no gradient.
    """
    inputs = [np.asarray(array) for array in inputs]
    input_names = [store(f"{name}.in{i}", array) for i, array in enumerate(inputs)]
    arguments = [to_tensor(array) for array in inputs]
    wanted = [
        i
        for i, tensor in enumerate(arguments)
        if tensor.is_floating_point() and i not in without_gradient
    ]
    for i in wanted:
        arguments[i].requires_grad_()

    results = function(*arguments)
    if isinstance(results, torch.Tensor):
        results = [results]
    output_names = [
        store(f"{name}.out{i}", to_array(result)) for i, result in enumerate(results)
    ]

    cotangent_names = []
    gradient_names = [None] * len(inputs)
    if wanted and all(result.requires_grad for result in results):
        rng = generator(name + ".cotangent")
        cotangents = [normal(rng, tuple(result.shape)) for result in results]
        cotangent_names = [
            store(f"{name}.cotangent{i}", array) for i, array in enumerate(cotangents)
        ]
        gradients = torch.autograd.grad(
            results,
            [arguments[i] for i in wanted],
            [to_tensor(array) for array in cotangents],
        )
        for i, gradient in zip(wanted, gradients):
            gradient_names[i] = store(f"{name}.grad{i}", to_array(gradient))
    add_case(
        name, op, attrs, input_names, output_names, cotangent_names, gradient_names
    )


# Pointwise operations


# name: (attrs, function, low and high end of the data)
UNARY = {
    "exp": ({}, torch.exp, -5.0, 5.0),
    "log": ({}, torch.log, 0.01, 10.0),
    "sqrt": ({}, torch.sqrt, 0.01, 10.0),
    "abs": ({}, torch.abs, -3.0, 3.0),
    "neg": ({}, torch.neg, -3.0, 3.0),
    "recip": ({}, torch.reciprocal, 0.25, 4.0),
    "expm1": ({}, torch.expm1, -3.0, 3.0),
    "log1p": ({}, torch.log1p, -0.75, 4.0),
    "relu": ({}, F.relu, -3.0, 3.0),
    "leaky_relu": (
        {"slope": 0.01},
        lambda x: F.leaky_relu(x, 0.01),
        -3.0,
        3.0,
    ),
    "elu": ({"alpha": 1.5}, lambda x: F.elu(x, 1.5), -4.0, 4.0),
    "gelu": ({}, F.gelu, -6.0, 6.0),
    "gelu_tanh": ({}, lambda x: F.gelu(x, approximate="tanh"), -6.0, 6.0),
    "silu": ({}, F.silu, -10.0, 10.0),
    "sigmoid": ({}, torch.sigmoid, -10.0, 10.0),
    "tanh": ({}, torch.tanh, -5.0, 5.0),
    "softplus": ({}, F.softplus, -10.0, 10.0),
    "clamp": (
        {"low": -0.5, "high": 0.75},
        lambda x: torch.clamp(x, -0.5, 0.75),
        -2.0,
        2.0,
    ),
}

BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "pow": torch.pow,
    "minimum": torch.minimum,
    "maximum": torch.maximum,
}

COMPARISONS = {
    "eq": torch.eq,
    "ne": torch.ne,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
}

# name: shapes of the two operands
BROADCASTS = {
    "same": ((5, 7), (5, 7)),
    "both": ((3, 1, 5), (4, 1)),
    "row": ((2, 3, 5), (5,)),
    "column": ((3, 1), (2, 3, 5)),
    "scalar": ((3, 5), ()),
}


def unary_cases():
    for op, (attrs, function, low, high) in UNARY.items():
        x = uniform(generator(op), (5, 7), low, high)
        case(op, op, attrs, [x], function)

    # Small arguments, where a careless formula loses its digits.
    small = f32([1e-7, -1e-7, 3e-6, -3e-6, 1e-4, -1e-4, 2e-3, -2e-3, 0.03, -0.03, 0.0])
    for op in ["expm1", "log1p", "tanh", "gelu", "gelu_tanh", "silu", "elu"]:
        attrs, function, _, _ = UNARY[op]
        # At zero the derivative of elu is a convention: see the kinks below.
        x = small[small != 0.0] if op == "elu" else small
        case(f"{op}_small", op, attrs, [x], function)

    # Large arguments, where a careless formula overflows.
    large = f32([15.0, -15.0, 19.5, -19.5, 21.0, -21.0, 50.0, -50.0, 90.0, -90.0, 500.0])
    for op in ["gelu", "gelu_tanh", "silu", "sigmoid", "tanh", "softplus"]:
        attrs, function, _, _ = UNARY[op]
        case(f"{op}_large", op, attrs, [large], function)

    kinks = f32([-1.0, -0.5, 0.0, 0.25, 0.75, 1.0, 0.0])
    for op in ["relu", "abs", "leaky_relu", "elu", "clamp"]:
        attrs, function, _, _ = UNARY[op]
        case(f"{op}_kink", op, {**attrs, "kink": True}, [kinks], function)


def binary_cases():
    for op, function in BINARY.items():
        for suffix, (shape_a, shape_b) in BROADCASTS.items():
            if suffix not in ("same", "both") and op not in ("sub", "div"):
                continue
            name = f"{op}_{suffix}"
            rng = generator(name)
            a, b = normal(rng, shape_a, 2.0), normal(rng, shape_b, 2.0)
            if op == "div":
                b = away_from_zero(rng, shape_b)
            if op == "pow":
                a = uniform(rng, shape_a, 0.2, 3.0)
                b = uniform(rng, shape_b, -2.0, 2.5)
            case(name, op, {}, [a, b], function)

    rng = generator("pow_negative_base")
    base = away_from_zero(rng, (5, 7))
    exponent = f32([-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    case("pow_negative_base", "pow", {}, [base, exponent], torch.pow, [1])

    a, b = f32([1.0, -2.0, 0.5, 0.0, 3.0]), f32([1.0, 2.0, 0.5, 0.0, -3.0])
    for op in ["minimum", "maximum"]:
        case(f"{op}_kink", op, {"kink": True}, [a, b], BINARY[op])

    for op, function in COMPARISONS.items():
        for suffix in ["same", "both"]:
            name = f"{op}_{suffix}"
            rng = generator(name)
            # Few different values, so that many pairs are equal.
            a, b = (f32(rng.integers(-2, 3, shape)) for shape in BROADCASTS[suffix])
            case(name, op, {}, [a, b], function)

    for suffix, shapes in {
        "same": ((5, 7), (5, 7), (5, 7)),
        "broadcast": ((3, 1, 5), (4, 1), (2, 1, 1, 5)),
        "scalar": ((3, 5), (3, 5), ()),
    }.items():
        name = f"where_{suffix}"
        rng = generator(name)
        condition = integers(rng, shapes[0], 2)
        a, b = normal(rng, shapes[1]), normal(rng, shapes[2])
        case(name, "where", {}, [condition, a, b], lambda c, a, b: torch.where(c != 0, a, b))


def special_cases():
    values = f32(SPECIAL)
    first, second = np.repeat(values, len(values)), np.tile(values, len(values))

    def special(op, attrs, function, arrays, input_names):
        for name, array in zip(input_names, arrays):
            store(name, array)
        result = function(*[to_tensor(array, torch.float32) for array in arrays])
        output = store(f"{op}_special.out0", to_array(result))
        attrs = {**attrs, "special": True}
        add_case(f"{op}_special", op, attrs, input_names, [output])

    for op, (attrs, function, _, _) in UNARY.items():
        special(op, attrs, function, [values], ["special.x"])
    for op, function in {**BINARY, **COMPARISONS}.items():
        special(op, {}, function, [first, second], ["special.a", "special.b"])


# Reductions


def reduction_cases():
    functions = {
        "sum": lambda x, axes, keepdim: torch.sum(x, axes, keepdim),
        "mean": lambda x, axes, keepdim: torch.mean(x, axes, keepdim),
        "max": lambda x, axes, keepdim: torch.amax(x, axes, keepdim),
        "min": lambda x, axes, keepdim: torch.amin(x, axes, keepdim),
    }
    # suffix: shape, axes, keepdim
    variants = {
        "first": ((3, 4, 5), [0], False),
        "middle": ((3, 4, 5), [1], True),
        "last": ((3, 4, 5), [2], False),
        "two_outer": ((3, 4, 5), [0, 2], False),
        "two_inner": ((3, 4, 5), [1, 2], True),
        "channels": ((3, 2, 5, 3), [0, 2, 3], True),
        "all": ((3, 4, 5), [0, 1, 2], False),
        "all_keepdim": ((3, 4, 5), [0, 1, 2], True),
        "size_one": ((3, 1, 5), [1], False),
        "long": ((2, 261), [1], False),
    }
    for suffix, (shape, axes, keepdim) in variants.items():
        attrs = {"axes": axes, "keepdim": keepdim}
        for op, function in functions.items():
            if suffix == "long" and op in ("mean", "min"):
                continue  # sum and max are enough
            name = f"{op}_{suffix}"
            rng = generator(name)
            x = distinct(rng, shape) if op in ("max", "min") else normal(rng, shape)
            case(name, op, attrs, [x], lambda x: function(x, axes, keepdim))

        if len(axes) == 1:
            name = f"argmax_{suffix}"
            x = distinct(generator(name), shape)
            case(name, "argmax", attrs, [x], lambda x: torch.argmax(x, axes[0], keepdim))

        for correction in [0, 1]:
            if correction == 1 and suffix == "size_one":
                continue  # the result is not a number
            if correction == 0 and suffix == "long":
                continue  # one such case is enough
            name = f"var_{suffix}_correction{correction}"
            # A mean away from zero shows a formula that loses its digits.
            x = f32(normal(generator(name), shape) + 3.0)
            case(
                name,
                "var",
                {**attrs, "correction": correction},
                [x],
                lambda x: torch.var(x, axes, correction=correction, keepdim=keepdim),
            )


# Shapes


def shape_cases():
    def one(name, op, attrs, shape, function):
        case(name, op, attrs, [normal(generator(name), shape)], function)

    for suffix, shape, new in [
        ("middle", (3, 1, 5), [3, 4, 5]),
        ("new_axes", (5, 1), [2, 3, 5, 2]),
        ("several", (1, 5, 1), [3, 5, 2]),
        ("scalar", (), [3, 5]),
    ]:
        one(f"expand_{suffix}", "expand", {"shape": new}, shape, lambda x: x.expand(new))

    for suffix, shape, new in [
        ("merge", (3, 4, 5), [12, 5]),
        ("split", (12, 5), [3, 4, 5]),
        ("flat", (3, 4, 5), [60]),
        ("ones", (3, 5), [1, 3, 1, 5]),
    ]:
        one(f"reshape_{suffix}", "reshape", {"shape": new}, shape, lambda x: x.reshape(new))

    for suffix, shape, axes in [
        ("transpose", (3, 5), [1, 0]),
        ("rotate", (3, 4, 5), [2, 0, 1]),
        ("inner", (3, 4, 5), [0, 2, 1]),
        ("channels_last", (2, 3, 4, 5), [0, 2, 3, 1]),
    ]:
        one(f"permute_{suffix}", "permute", {"axes": axes}, shape, lambda x: x.permute(axes))

    for suffix, axis, start, length in [
        ("first", 0, 1, 2),
        ("middle", 1, 1, 3),
        ("last", 2, 0, 3),
        ("whole", 1, 0, 4),
        ("one", 2, 4, 1),
    ]:
        attrs = {"axis": axis, "start": start, "len": length}
        one(
            f"slice_{suffix}",
            "slice",
            attrs,
            (3, 4, 5),
            lambda x: x.narrow(axis, start, length),
        )

    for suffix, shapes, axis in [
        ("first", [(3, 5), (1, 5), (2, 5)], 0),
        ("middle", [(3, 2, 5), (3, 4, 5)], 1),
        ("last", [(3, 5, 1), (3, 5, 4), (3, 5, 2)], 2),
    ]:
        name = f"concat_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, shape) for shape in shapes]
        case(name, "concat", {"axis": axis}, arrays, lambda *x: torch.cat(x, axis))

    for suffix, count, axis in [("first", 3, 0), ("middle", 2, 1), ("last", 3, 2)]:
        name = f"stack_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, (3, 5)) for _ in range(count)]
        case(name, "stack", {"axis": axis}, arrays, lambda *x: torch.stack(x, axis))

    for suffix, axis, sizes in [
        ("first", 0, [1, 2]),
        ("middle", 1, [1, 3]),
        ("last", 2, [1, 3, 1]),
    ]:
        attrs = {"axis": axis, "sizes": sizes}
        one(f"split_{suffix}", "split", attrs, (3, 4, 5), lambda x: torch.split(x, sizes, axis))

    for suffix, shape, pads, value in [
        ("vector", (5,), [[2, 1]], 0.0),
        ("image", (1, 2, 4, 3), [[0, 0], [0, 0], [1, 1], [2, 2]], 0.0),
        ("all_axes", (3, 2, 5), [[1, 0], [0, 2], [3, 1]], -1.5),
    ]:
        # PyTorch lists the last axis first.
        flat = [n for pair in reversed(pads) for n in pair]
        attrs = {"pads": pads, "value": value}
        one(f"pad_{suffix}", "pad", attrs, shape, lambda x: F.pad(x, flat, value=value))

    for suffix, shape, index_shape, axis in [
        ("first", (4, 5), (6, 5), 0),
        ("last", (4, 5), (4, 3), 1),
        ("middle", (3, 4, 5), (3, 6, 5), 1),
        ("smaller", (3, 4, 5), (2, 3, 7), 2),
    ]:
        name = f"gather_{suffix}"
        rng = generator(name)
        x, index = normal(rng, shape), integers(rng, index_shape, shape[axis])
        case(name, "gather", {"axis": axis}, [x, index], lambda x, i: torch.gather(x, axis, i))

    for suffix, axis, index in [
        ("first", 0, [2, 0, 2, 1, 2]),
        ("middle", 1, [3, 3, 0]),
        ("last", 2, [4, 0, 3, 3]),
    ]:
        name = f"index_select_{suffix}"
        x = normal(generator(name), (3, 4, 5))
        case(
            name,
            "index_select",
            {"axis": axis},
            [x, np.array(index, dtype=np.int32)],
            lambda x, i: torch.index_select(x, axis, i),
        )


# Products


def matmul_cases():
    def matmul(name, shape_a, shape_b, transpose_a=False, transpose_b=False):
        name = f"matmul_{name}"
        rng = generator(name)
        case(
            name,
            "matmul",
            {"transpose_a": transpose_a, "transpose_b": transpose_b},
            [normal(rng, shape_a), normal(rng, shape_b)],
            lambda a, b: torch.matmul(
                a.mT if transpose_a else a, b.mT if transpose_b else b
            ),
        )

    matmul("plain", (3, 5), (5, 7))
    matmul("transpose_a", (5, 3), (5, 7), True, False)
    matmul("transpose_b", (3, 5), (7, 5), False, True)
    matmul("transpose_both", (5, 3), (7, 5), True, True)
    matmul("row", (1, 5), (5, 7))
    matmul("column", (3, 5), (5, 1))
    matmul("inner_one", (3, 1), (1, 7))
    matmul("dot", (1, 5), (5, 1))
    matmul("batch", (2, 3, 5), (2, 5, 4))
    matmul("batch_left", (2, 3, 5), (5, 4))
    matmul("batch_right", (3, 5), (2, 5, 4))
    matmul("batch_broadcast", (3, 1, 2, 5), (2, 5, 3))
    matmul("batch_transpose_a", (2, 5, 3), (2, 5, 4), True, False)
    matmul("batch_transpose_b", (2, 1, 3, 5), (3, 4, 5), False, True)
    matmul("batch_transpose_both", (2, 5, 3), (4, 5), True, True)
    matmul("tiles", (17, 34), (34, 19))
    matmul("tiles_transpose_a", (18, 17), (18, 5), True, False)
    matmul("tiles_transpose_b", (5, 18), (17, 18), False, True)
    matmul("long", (1, 261), (261, 2))

    for suffix, shape, bias in [
        ("bias", (5, 7), True),
        ("no_bias", (5, 7), False),
        ("one_row", (1, 7), True),
        ("batch", (2, 5, 7), True),
    ]:
        name = f"linear_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, shape), normal(rng, (3, 7))]
        if bias:
            arrays.append(normal(rng, (3,)))
        case(name, "linear", {}, arrays, F.linear)


def conv_cases():
    def conv(
        name, x, weight, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, bias=True
    ):
        name = f"conv2d_{name}"
        rng = generator(name)
        arrays = [normal(rng, x), normal(rng, weight)]
        if bias:
            arrays.append(normal(rng, (weight[0],)))
        attrs = {
            "stride": list(stride),
            "padding": list(padding),
            "dilation": list(dilation),
            "groups": groups,
        }
        case(
            name,
            "conv2d",
            attrs,
            arrays,
            lambda x, w, b=None: F.conv2d(x, w, b, stride, padding, dilation, groups),
        )

    conv("basic", (2, 3, 5, 6), (4, 3, 3, 3))
    conv("no_bias", (2, 3, 6, 5), (4, 3, 3, 3), bias=False)
    conv("stride2", (2, 3, 7, 6), (4, 3, 3, 3), stride=(2, 2))
    conv("stride2_padding", (2, 2, 8, 8), (3, 2, 3, 3), stride=(2, 2), padding=(1, 1))
    conv("stride_3_1", (1, 2, 8, 5), (3, 2, 2, 3), stride=(3, 1))
    conv("same", (2, 2, 5, 7), (3, 2, 3, 3), padding=(1, 1))
    conv("padding_1_2", (2, 3, 5, 4), (2, 3, 3, 3), padding=(1, 2))
    conv("dilation2", (2, 2, 7, 8), (3, 2, 3, 3), dilation=(2, 2))
    conv(
        "dilation_2_1_all",
        (1, 2, 9, 7),
        (3, 2, 3, 2),
        stride=(2, 1),
        padding=(2, 1),
        dilation=(2, 1),
    )
    conv("groups2", (2, 4, 4, 5), (6, 2, 3, 3), padding=(1, 1), groups=2)
    conv("depthwise", (2, 3, 5, 6), (3, 1, 3, 3), padding=(1, 1), groups=3)
    conv("depthwise_twice", (1, 3, 5, 6), (6, 1, 3, 3), stride=(2, 2), groups=3)
    conv("one_by_one", (2, 5, 3, 4), (3, 5, 1, 1))
    conv("one_by_one_stride2", (2, 3, 5, 4), (2, 3, 1, 1), stride=(2, 2))
    conv("kernel_3_2", (2, 3, 6, 5), (4, 3, 3, 2))
    conv("kernel_2_5", (1, 2, 4, 6), (3, 2, 2, 5), padding=(0, 2))
    conv("whole_image", (3, 2, 4, 3), (5, 2, 4, 3))
    conv("tiles", (1, 3, 7, 5), (17, 3, 3, 3), padding=(1, 1))


def pool_cases():
    # suffix: shape, kernel, stride, padding
    variants = {
        "basic": ((2, 2, 4, 6), (2, 2), (2, 2), (0, 0)),
        "odd": ((2, 2, 5, 7), (2, 2), (2, 2), (0, 0)),
        "overlap": ((1, 3, 7, 6), (3, 3), (2, 2), (0, 0)),
        "padding": ((1, 2, 6, 7), (3, 3), (2, 2), (1, 1)),
        "kernel_3_2": ((1, 2, 7, 6), (3, 2), (2, 1), (1, 0)),
        "stride1": ((1, 2, 4, 5), (3, 3), (1, 1), (1, 1)),
        "gaps": ((1, 2, 8, 7), (2, 1), (3, 2), (0, 0)),
        "whole_image": ((2, 3, 3, 5), (3, 5), (3, 5), (0, 0)),
    }
    for suffix, (shape, kernel, stride, padding) in variants.items():
        attrs = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding)}
        name = f"max_pool2d_{suffix}"
        case(
            name,
            "max_pool2d",
            attrs,
            [distinct(generator(name), shape)],
            lambda x: F.max_pool2d(x, kernel, stride, padding),
        )
        name = f"avg_pool2d_{suffix}"
        case(
            name,
            "avg_pool2d",
            {**attrs, "count_include_pad": True},
            [normal(generator(name), shape)],
            lambda x: F.avg_pool2d(x, kernel, stride, padding, count_include_pad=True),
        )


# Losses


def transformer_cases():
    for suffix, shape, padding in [("plain", (2, 7), None), ("padding", (3, 5), 2)]:
        name = f"embedding_{suffix}"
        rng = generator(name)
        table, index = normal(rng, (5, 4)), integers(rng, shape, 5)
        case(
            name,
            "embedding",
            {"padding": padding},
            [table, index],
            lambda t, i: F.embedding(i, t, padding_idx=padding),
        )

    def attention(name, lead, lengths, mask=None, causal=False, scale=None):
        name = f"attention_{name}"
        rng = generator(name)
        q, k, f, v = lengths
        inputs = [normal(rng, lead + tail) for tail in [(q, f), (k, f), (k, v)]]
        if mask == "bool":
            # The first query sees nothing.
            mask = np.array(rng.random(lead[:1] + (1, q, k)) < 0.6, dtype=np.int32)
            mask[..., 0, :] = 0
            inputs.append(mask)
        elif mask == "added":
            inputs.append(normal(rng, (q, k)))

        def function(query, key, value, mask=None):
            if mask is not None and not mask.is_floating_point():
                mask = mask.bool()
            return F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, scale=scale
            )

        attrs = {"causal": causal, "scale": scale}
        case(name, "attention", attrs, inputs, function)

    attention("plain", (2, 3), (5, 7, 4, 3))
    attention("scale", (2, 1), (3, 4, 4, 4), scale=0.25)
    attention("causal", (1, 2), (6, 6, 4, 5), causal=True)
    attention("causal_more_keys", (1, 2), (4, 7, 3, 3), causal=True)
    attention("causal_more_queries", (1, 2), (7, 4, 3, 3), causal=True)
    attention("bool", (2, 3), (5, 7, 4, 3), mask="bool")
    attention("added", (2, 3), (5, 7, 4, 3), mask="added")

    for suffix, causal in [("plain", False), ("causal", True)]:
        name = f"multi_head_attention_{suffix}"
        rng = generator(name)
        layer = torch.nn.MultiheadAttention(6, 2, batch_first=True).double()
        names = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
        shapes = [(2, 5, 6), (18, 6), (18,), (6, 6), (6,)]
        blocked = torch.ones(5, 5, dtype=torch.bool).triu(1) if causal else None

        def function(x, *parameters):
            given = dict(zip(names, parameters))
            call = {"attn_mask": blocked, "need_weights": False}
            return torch.func.functional_call(layer, given, (x, x, x), call)[0]

        attrs = {"heads": 2, "causal": causal}
        inputs = [normal(rng, shape) for shape in shapes]
        case(name, "multi_head_attention", attrs, inputs, function)


def cross_entropy_option_case(kind, weighted, smoothing, reduction):
    parts = [kind]
    parts += ["weighted"] * weighted + ["smoothed"] * (smoothing > 0) + [reduction]
    name = "_".join(["cross_entropy_with"] + parts)
    rng = generator(name)
    rows, classes = 9, 8
    logits = normal(rng, (rows, classes), 2.0)
    target = integers(rng, (rows,), classes)
    ignore = None
    if kind == "ignored":
        ignore = -100
        target[[1, 4, 8]] = ignore
    elif kind == "ignored_class":
        ignore = 5
        target[[0, 3]] = ignore
    elif kind == "probabilities":
        target = f32(rng.dirichlet(np.ones(classes), rows))
    inputs = [logits, target] + ([uniform(rng, (classes,), 0.25, 2.0)] if weighted else [])
    attrs = {"label_smoothing": smoothing, "ignore": ignore, "reduction": reduction}

    def function(logits, target, weight=None):
        # The default is a label that no case has.
        settings = {} if ignore is None else {"ignore_index": ignore}
        return F.cross_entropy(
            logits,
            target,
            weight=weight,
            label_smoothing=smoothing,
            reduction=reduction,
            **settings,
        )

    case(name, "cross_entropy_with", attrs, inputs, function, without_gradient=(2,))


def loss_cases():
    for op, function in {"softmax": F.softmax, "log_softmax": F.log_softmax}.items():
        for suffix, shape, axis, scale in [
            ("first", (3, 4, 5), 0, 1.0),
            ("middle", (3, 4, 5), 1, 1.0),
            ("last", (3, 4, 5), 2, 1.0),
            ("matrix", (4, 10), 1, 3.0),
            ("large", (4, 10), 1, 300.0),
            ("size_one", (3, 1), 1, 1.0),
            ("long", (1, 261), 1, 1.0),
        ]:
            name = f"{op}_{suffix}"
            x = normal(generator(name), shape, scale)
            case(name, op, {"axis": axis}, [x], lambda x: function(x, dim=axis))

    for suffix, rows, classes, scale in [
        ("basic", 5, 10, 1.0),
        ("one_row", 1, 7, 1.0),
        ("two_classes", 7, 2, 2.0),
        ("large", 5, 10, 300.0),
        ("many_rows", 67, 3, 1.0),
    ]:
        for reduction in ["mean", "sum"]:
            name = f"cross_entropy_{suffix}_{reduction}"
            rng = generator(name)
            case(
                name,
                "cross_entropy",
                {"reduction": reduction},
                [normal(rng, (rows, classes), scale), integers(rng, (rows,), classes)],
                lambda x, labels: F.cross_entropy(x, labels, reduction=reduction),
            )

    for kind in ["labels", "ignored", "ignored_class", "probabilities"]:
        for weighted in [False, True]:
            # An eighth, and eight classes: all numbers are exact in F32.
            for smoothing in [0.0, 0.125]:
                for reduction in ["mean", "sum", "none"]:
                    cross_entropy_option_case(kind, weighted, smoothing, reduction)

    for suffix, shape in [("vector", (7,)), ("matrix", (5, 3)), ("cube", (3, 5, 7))]:
        name = f"mse_loss_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, shape), normal(rng, shape)]
        case(name, "mse_loss", {"reduction": "mean"}, arrays, F.mse_loss)


def norm_cases():
    for suffix, shape, dims, affine in [
        ("vector", (3, 7), 1, True),
        ("four", (5, 12), 1, True),
        ("long", (2, 261), 1, True),
        ("two_axes", (4, 3, 5), 2, True),
        ("plain", (3, 4, 8), 1, False),
    ]:
        name = f"layer_norm_{suffix}"
        rng = generator(name)
        over = shape[len(shape) - dims :]
        arrays = [normal(rng, shape)] + [normal(rng, over) for _ in range(2 * affine)]
        case(
            name,
            "layer_norm",
            {"dims": dims, "eps": 1e-5},
            arrays,
            lambda x, *weights: F.layer_norm(x, over, *weights, eps=1e-5),
        )
        if affine:
            name = f"rms_norm_{suffix}"
            case(
                name,
                "rms_norm",
                {"dims": dims, "eps": 1e-3},
                arrays[:2],
                lambda x, weight: F.rms_norm(x, over, weight, eps=1e-3),
            )

    for suffix, shape, groups in [("images", (3, 6, 4, 5), 3), ("one", (2, 4, 7), 1)]:
        name = f"group_norm_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, shape), normal(rng, shape[1:2]), normal(rng, shape[1:2])]
        case(
            name,
            "group_norm",
            {"groups": groups, "eps": 1e-5},
            arrays,
            lambda x, weight, bias: F.group_norm(x, groups, weight, bias, eps=1e-5),
        )

    for suffix, shape in [
        ("images", (3, 5, 4, 7)),
        ("four", (2, 3, 4, 4)),
        ("signals", (4, 2, 9)),
        ("rows", (17, 3)),
        ("four_rows", (17, 8)),
    ]:
        name = f"batch_norm_{suffix}"
        rng = generator(name)
        channels = shape[1:2]
        x, weight, bias = normal(rng, shape), normal(rng, channels), normal(rng, channels)
        mean, variance = normal(rng, channels), uniform(rng, channels, 0.5, 2.0)
        case(
            name,
            "batch_norm",
            {"eps": 1e-3},
            [x, weight, bias],
            lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, True, eps=1e-3),
        )
        case(
            f"batch_norm_with_{suffix}",
            "batch_norm_with",
            {"eps": 1e-5},
            [x, mean, variance, weight, bias],
            lambda x, *given: F.batch_norm(x, *given, training=False, eps=1e-5),
            [1, 2],
        )

        def running(x, mean, variance):
            F.batch_norm(x, mean, variance, training=True, momentum=0.1)
            return [mean, variance]

        arrays = [x, mean, variance]
        case(f"batch_norm_running_{suffix}", "batch_norm_running", {"momentum": 0.1}, arrays, running, [0, 1, 2])


# Optimisers


def run_optimizer(make, parameter, gradients, rates=None):
    """Runs an optimiser over given gradients; returns the values at STEPS."""
    parameter = to_tensor(parameter).requires_grad_()
    optimizer = make([parameter])
    kept = []
    for step, gradient in enumerate(to_tensor(gradients), start=1):
        if rates is not None:
            optimizer.param_groups[0]["lr"] = float(rates[step - 1])
        parameter.grad = gradient.clone()
        optimizer.step()
        if step in STEPS:
            kept.append(to_array(parameter).copy())
    return np.stack(kept)


def optimizer_case(name, op, attrs, make, gradient_scale=1.0, rates=None):
    rng = generator("optimizer")
    parameter = normal(rng, (7,))
    # A drift in each element beside the noise.
    gradients = f32((rng.standard_normal((100, 7)) + rng.standard_normal(7)) * gradient_scale)
    inputs = [
        store("optimizer.parameter", parameter),
        store("optimizer.gradients" if gradient_scale == 1.0 else f"{name}.in1", gradients),
    ]
    if rates is not None:
        inputs.append(store(f"{name}.in2", rates))
    output = store(f"{name}.out0", run_optimizer(make, parameter, gradients, rates))
    add_case(name, op, {**attrs, "steps": STEPS}, inputs, [output])


def optimizer_cases():
    for suffix, changes in {
        "plain": {},
        "momentum": {"momentum": 0.9},
        "nesterov": {"momentum": 0.9, "nesterov": True},
        "weight_decay": {"weight_decay": 0.01},
        "momentum_weight_decay": {"momentum": 0.9, "weight_decay": 0.01},
        "nesterov_weight_decay": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    }.items():
        attrs = {
            "lr": 0.05,
            "momentum": 0.0,
            "nesterov": False,
            "weight_decay": 0.0,
            "dampening": 0.0,
            **changes,
        }
        optimizer_case(f"sgd_{suffix}", "sgd", attrs, lambda p: torch.optim.SGD(p, **attrs))

    def adamw(suffix, gradient_scale=1.0, rates=None, **changes):
        attrs = {
            "lr": 1e-3,
            "beta1": 0.9,
            "beta2": 0.999,
            "eps": 1e-8,
            "weight_decay": 1e-2,
            **changes,
        }

        def make(parameters):
            return torch.optim.AdamW(
                parameters,
                lr=1e-3 if attrs["lr"] is None else attrs["lr"],
                betas=(attrs["beta1"], attrs["beta2"]),
                eps=attrs["eps"],
                weight_decay=attrs["weight_decay"],
            )

        optimizer_case(f"adamw_{suffix}", "adamw", attrs, make, gradient_scale, rates)

    adamw("defaults")
    adamw("other", lr=0.02, beta1=0.8, beta2=0.95, eps=1e-4, weight_decay=0.1)
    adamw("no_decay", lr=0.01, weight_decay=0.0)
    # Gradients of the size of eps, so that its place in the formula shows.
    adamw("small_gradients", gradient_scale=1e-7, lr=0.01)
    # Ten steps of warm-up, then a cosine.
    step = np.arange(100)
    cosine = 0.5 * (1.0 + np.cos(np.pi * np.maximum(step - 10, 0) / 90.0))
    rates = f32(0.02 * np.minimum((step + 1) / 10.0, 1.0) * cosine)
    adamw("schedule", rates=rates, lr=None)


def clip_cases():
    for suffix, max_norm in [("scaled", 1.5), ("untouched", 100.0), ("small", 1e-3)]:
        name = f"clip_grad_norm_{suffix}"
        rng = generator(name)
        arrays = [normal(rng, shape) for shape in [(3, 5), (7,), (2, 3, 5)]]
        parameters = [torch.zeros(array.shape, dtype=torch.float64) for array in arrays]
        for parameter, array in zip(parameters, arrays):
            parameter.grad = to_tensor(array)
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        inputs = [store(f"{name}.in{i}", array) for i, array in enumerate(arrays)]
        results = [parameter.grad for parameter in parameters] + [norm]
        outputs = [store(f"{name}.out{i}", to_array(r)) for i, r in enumerate(results)]
        attrs = {"max_norm": max_norm, "eps": 1e-6}
        add_case(name, "clip_grad_norm", attrs, inputs, outputs)


# Training


class SmallCnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(8, 16, 3, padding=1)
        self.fc = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def cnn_case():
    name = "cnn_losses"
    batch, batches, steps = 16, 5, 20
    attrs = {
        "batch": batch,
        "batches": batches,
        "steps": steps,
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "weight_decay": 1e-2,
    }
    rng = generator(name)
    # Each class has a pattern, which noise covers.
    patterns = rng.standard_normal((10, 1, 8, 8))
    labels = integers(rng, (batch * batches,), 10)
    images = f32(patterns[labels] + 0.5 * rng.standard_normal((batch * batches, 1, 8, 8)))

    model = SmallCnn().double()
    parameters = {}
    for key, tensor in model.state_dict().items():
        # Uniform within 1 / sqrt(fan in), as PyTorch starts these layers.
        weight = model.state_dict()[key.split(".")[0] + ".weight"]
        bound = 1.0 / np.sqrt(weight[0].numel())
        parameters[key] = uniform(rng, tuple(tensor.shape), -bound, bound)
    model.load_state_dict({key: to_tensor(array) for key, array in parameters.items()})

    inputs = [store(f"{name}.in0", images), store(f"{name}.in1", labels)]
    inputs += [store(key, array) for key, array in parameters.items()]
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=attrs["lr"],
        betas=(attrs["beta1"], attrs["beta2"]),
        eps=attrs["eps"],
        weight_decay=attrs["weight_decay"],
    )
    x, y = to_tensor(images), to_tensor(labels)
    first_logits = to_array(model(x[:batch])).copy()
    losses = []
    for step in range(steps):
        start = batch * (step % batches)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x[start : start + batch]), y[start : start + batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    results = [np.array(losses), first_logits]
    results += [to_array(tensor) for tensor in model.state_dict().values()]
    outputs = [store(f"{name}.out{i}", array) for i, array in enumerate(results)]
    attrs["parameters"] = list(parameters)
    add_case(name, "cnn_losses", attrs, inputs, outputs)


# Initial values


def init_cases():
    for suffix, shape in [("wide", (3, 5)), ("tall", (5, 3)), ("square", (4, 4))]:
        result = torch.nn.init.eye_(torch.full(shape, 7.0, dtype=torch.float64))
        name = f"eye_{suffix}"
        output = store(f"{name}.out0", to_array(result))
        add_case(name, "eye", {"shape": list(shape)}, [], [output])

    for suffix, shape, groups in [
        ("1d", (4, 3, 5), 1),
        ("2d", (3, 5, 3, 3), 1),
        ("2d_even", (4, 4, 2, 4), 1),
        ("3d", (2, 2, 3, 1, 3), 1),
        ("groups", (6, 2, 3, 3), 3),
        ("groups_wide", (4, 5, 3, 3), 2),
    ]:
        result = torch.nn.init.dirac_(torch.full(shape, 7.0, dtype=torch.float64), groups)
        name = f"dirac_{suffix}"
        output = store(f"{name}.out0", to_array(result))
        add_case(name, "dirac", {"shape": list(shape), "groups": groups}, [], [output])

    plain = ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
    plain += [f"conv{d}d" for d in (1, 2, 3)] + [f"conv_transpose{d}d" for d in (1, 2, 3)]
    for nonlinearity, slope in [(name, None) for name in plain] + [("leaky_relu", 0.3)]:
        gain = float(torch.nn.init.calculate_gain(nonlinearity, slope))
        name = f"calculate_gain_{nonlinearity}" + ("" if slope is None else "_slope")
        output = store(f"{name}.out0", np.array(gain))
        attrs = {"nonlinearity": nonlinearity, "slope": slope}
        add_case(name, "calculate_gain", attrs, [], [output])


# Reading back


def verify(path):
    """Reads the file back and checks it against its own description."""
    allowed = {np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int32)}
    with safe_open(path, framework="np") as file:
        listed = json.loads(file.metadata()["cases"])
        stored = {name: file.get_tensor(name) for name in file.keys()}
    assert listed == cases
    assert set(stored) == set(tensors)
    for name, array in stored.items():
        assert array.dtype in allowed, name
        assert array.dtype == tensors[name].dtype, name
        assert array.shape == tensors[name].shape, name
        assert array.tobytes() == tensors[name].tobytes(), name

    used = set()
    for item in listed:
        label = item["name"]
        assert len(item["gradients"]) == len(item["inputs"]), label
        gradients = [name for name in item["gradients"] if name]
        assert bool(gradients) == bool(item["cotangents"]), label
        if item["cotangents"]:
            for output, cotangent in zip(item["outputs"], item["cotangents"], strict=True):
                assert stored[output].shape == stored[cotangent].shape, label
        for name, gradient in zip(item["inputs"], item["gradients"]):
            if gradient:
                assert stored[name].shape == stored[gradient].shape, label
        names = item["inputs"] + item["outputs"] + item["cotangents"] + gradients
        used.update(names)
        if not item["attrs"].get("special"):
            for name in names:
                assert np.isfinite(stored[name]).all(), name
    assert used == set(stored)
    return listed, stored


def prepare():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    # PyTorch's own kernels, not those of oneDNN, whose gelu(inf) is nan.
    torch.backends.mkldnn.enabled = False


def write(path):
    """Writes what the calls of `case` so far have stored, and reads it back."""
    text = json.dumps(cases, separators=(",", ":"))
    save_file(tensors, path, metadata={"cases": text})
    listed, stored = verify(path)
    ops = {item["op"] for item in listed}
    print(f"{path}: {len(listed)} cases of {len(ops)} operations, {len(stored)} tensors")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/pytorch_values.py tests/data/pytorch.safetensors")
    prepare()
    unary_cases()
    binary_cases()
    special_cases()
    reduction_cases()
    shape_cases()
    matmul_cases()
    conv_cases()
    pool_cases()
    norm_cases()
    transformer_cases()
    loss_cases()
    optimizer_cases()
    clip_cases()
    cnn_case()
    init_cases()
    write(sys.argv[1])


if __name__ == "__main__":
    main()
