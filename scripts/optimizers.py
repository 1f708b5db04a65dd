#!/usr/bin/env python3
"""Makes the values that Kiln's optimizers are compared with.

    pip install torch numpy safetensors
    python3 scripts/optimizers.py tests/data/optimizers.safetensors

The stored file was made with the version of PyTorch that its metadata entry
`made_with` names.

What is run
-----------
Every case is an optimizer with its settings, run for 300 steps on two
parameters, `matrix` [5, 7] and `vector` [3], whose gradients are prescribed by
`gradient` below: Philox words, so that both sides can form them and none need be
stored. There are zeros, elements that keep their sign, a step in eleven with
gradients around 1e-12, spikes around 1e4 at steps 117 and 217, and spells in
which one of the parameters or none gets a gradient. Parameters without a
gradient are left alone, as torch.optim does.

Optimizers of torch.optim are PyTorch's own. The others (Lion, LAMB, LARS, Adan,
FTRL, the schedule-free ones, and Muon once more without bfloat16) are the few
lines below, written from the paper or the authors' formula, which each names.

The file
--------
The metadata entry `cases` is a JSON list. Each case is an object:

    name      unique name
    op        the optimizer, by the name of Kiln's rule
    attrs     its settings, by the names of torch.optim or of the lines below
    inputs    empty
    outputs   names of tensors:
              F64 [7, 38], the elements of `matrix`, then those of `vector`,
              after each of the steps in the metadata entry `steps`, computed in
              float64;
              F32 [7, 38], the same computed in float32 by the same program; it
              says which error is usual;
              for each name in attrs.moments F64 [38] and F32 [38]: what the rule
              keeps under this name after the last step, computed in both

A case with attrs.matrix_only has no gradient for `vector`.
"""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

LAST = 300
STEPS = [1, 2, 3, 10, 37, 100, LAST]
SHAPES = [(5, 7), (3,)]

tensors = {}
cases = []


# The prescribed numbers


def philox(counter, key):
    """Four 32-bit words: Philox 4x32-10 (Salmon et al. 2011)."""
    mask = 0xFFFFFFFF
    counter, key = list(counter), list(key)
    for turn in range(10):
        if turn > 0:
            key = [(key[0] + 0x9E3779B9) & mask, (key[1] + 0xBB67AE85) & mask]
        a, b = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [(b >> 32) ^ counter[1] ^ key[0], b & mask, (a >> 32) ^ counter[3] ^ key[1], a & mask]
    return counter


def word(seed, draw, element):
    return philox([element // 4, 1, draw, 0], [seed, 0])[element % 4]


def start(parameter):
    """The values before the first step, in [-2, 2)."""
    count = int(np.prod(SHAPES[parameter]))
    words = [word(parameter + 1, 0, element) for element in range(count)]
    return np.array([((w >> 8) - 2**23) / 2**22 for w in words]).reshape(SHAPES[parameter])


def is_reached(parameter, step):
    """Whether a parameter gets a gradient in a step, counted from 1."""
    if parameter == 0:
        return not 5 <= step <= 8
    return step >= 3 and not 7 <= step <= 9 and not 40 <= step <= 60


def gradient(parameter, step):
    """The gradient of a parameter in a step, or None; numbers that float32 holds."""
    if not is_reached(parameter, step):
        return None
    values = []
    for element in range(int(np.prod(SHAPES[parameter]))):
        w = word(parameter + 1, step, element)
        share = (w >> 8) / 2**24
        # One element in three has both signs, the others keep theirs.
        value = [share, 2 * share - 1, -share][element % 3]
        if w % 16 == 0:
            value = 0.0
        if step % 11 == 5:
            value *= 1e-12
        if step % 100 == 17 and step > 100 and element % 7 == 3:
            value *= 1e4
        values.append(float(np.float32(value)))
    return np.array(values).reshape(SHAPES[parameter])


GRADIENTS = [[gradient(parameter, step) for step in range(1, LAST + 1)] for parameter in range(2)]


# Running and storing


def flat(arrays):
    return np.concatenate([np.asarray(array).reshape(-1) for array in arrays])


def add_case(name, rule, attrs, run):
    """Stores a case: `run(dtype)` gives the values at STEPS, and moments."""
    assert all(case["name"] != name for case in cases), name
    (exact, moments), (single, single_moments) = run(np.float64), run(np.float32)
    assert exact.dtype == np.float64 and single.dtype == np.float32, name
    assert np.isfinite(exact).all() and np.isfinite(single).all(), name
    outputs = {name: exact, f"{name}.single": single}
    for moment, values in moments.items():
        outputs[f"{name}.{moment}"], outputs[f"{name}.{moment}.single"] = values, single_moments[moment]
    tensors.update(outputs)
    attrs = {**attrs, "moments": list(moments)}
    cases.append({"name": name, "op": rule, "attrs": attrs, "inputs": [], "outputs": list(outputs)})


def given(attrs, parameter, step):
    if attrs.get("matrix_only") and parameter == 1:
        return None
    return GRADIENTS[parameter][step - 1]


def pytorch(name, rule, make, moments=None, **attrs):
    """A case of an optimizer of torch.optim. `moments`: Kiln's name for PyTorch's."""
    settings = {key: value for key, value in attrs.items() if key != "matrix_only"}

    def run(dtype):
        kind = torch.float64 if dtype == np.float64 else torch.float32
        # The optimizer's own scalars have the default type.
        torch.set_default_dtype(kind)
        parameters = [torch.tensor(start(i), dtype=kind, requires_grad=True) for i in range(2)]
        trained = parameters[:1] if attrs.get("matrix_only") else parameters
        optimizer = make(trained, **settings)
        kept = []
        for step in range(1, LAST + 1):
            for i, parameter in enumerate(parameters):
                own = given(attrs, i, step)
                parameter.grad = None if own is None else torch.tensor(own, dtype=kind)
            optimizer.step()
            if step in STEPS:
                kept.append(flat(parameter.detach().numpy() for parameter in parameters))
        last = {
            own: flat(optimizer.state[parameter][theirs].numpy() for parameter in parameters)
            for own, theirs in (moments or {}).items()
        }
        return np.stack(kept), last

    add_case(name, rule, attrs, run)


def plain(name, rule, update, moments=(), **attrs):
    """A case of one of the programs below: `update(x, g, t, s, a)` gives the new x, where x and g are a parameter and its
    gradient, t the number of this update of it, s what is kept for it, and a the settings."""

    def run(dtype):
        values = [start(i).astype(dtype) for i in range(2)]
        state, counts, kept = [{}, {}], [0, 0], []
        for step in range(1, LAST + 1):
            for i in range(2):
                own = given(attrs, i, step)
                if own is not None:
                    counts[i] += 1
                    values[i] = update(values[i], own.astype(dtype), counts[i], state[i], attrs)
                    assert values[i].dtype == dtype, name
            if step in STEPS:
                kept.append(flat(values))
        return np.stack(kept), {moment: flat(own[moment] for own in state) for moment in moments}

    add_case(name, rule, attrs, run)


# Optimizers that PyTorch does not have


def kept(state, name, like):
    return state.get(name, np.zeros_like(like))


def norm(values):
    return np.sqrt(np.sum(values * values))


def lion(x, g, t, s, a):
    """Chen et al. 2023, algorithm 2."""
    (b1, b2), m = a["betas"], kept(s, "m", x)
    direction = np.sign(b1 * m + (1 - b1) * g)
    s["m"] = b2 * m + (1 - b2) * g
    return x - a["lr"] * (direction + a["weight_decay"] * x)


def lamb(x, g, t, s, a):
    """You et al. 2020, algorithm 2, with phi(z) = z, and a factor of 1 where a norm is 0 as in the authors' program."""
    b1, b2 = a["betas"]
    s["m"] = b1 * kept(s, "m", x) + (1 - b1) * g
    s["v"] = b2 * kept(s, "v", x) + (1 - b2) * g * g
    r = s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + a["eps"])
    u = r + a["weight_decay"] * x
    trust = norm(x) / norm(u) if norm(x) > 0 and norm(u) > 0 else 1.0
    return (x - a["lr"] * trust * u).astype(x.dtype)


def lars(x, g, t, s, a):
    """You, Gitman and Ginsburg 2017, equation 6, with the global rate outside the momentum, as PyTorch's SGD has it."""
    wd, mu = a["weight_decay"], a["momentum"]
    trust = 1.0
    if norm(x) > 0 and norm(g) > 0:
        trust = a["trust"] * norm(x) / (norm(g) + wd * norm(x) + a["eps"])
    d = trust * (g + wd * x)
    s["momentum"] = mu * kept(s, "momentum", x) + d
    step = d + mu * s["momentum"] if a["nesterov"] else s["momentum"]
    return (x - a["lr"] * step).astype(x.dtype)


def adan(x, g, t, s, a):
    """Xie et al. 2022, algorithm 1, with the betas and the bias corrections of the authors' program."""
    b1, b2, b3 = a["betas"]
    difference = g - s.get("g", g)
    s["g"] = g
    s["m"] = b1 * kept(s, "m", x) + (1 - b1) * g
    s["v"] = b2 * kept(s, "v", x) + (1 - b2) * difference
    s["n"] = b3 * kept(s, "n", x) + (1 - b3) * (g + b2 * difference) ** 2
    root = np.sqrt(s["n"] / (1 - b3**t)) + a["eps"]
    moved = x - a["lr"] * (s["m"] / (1 - b1**t) + b2 * s["v"] / (1 - b2**t)) / root
    return moved / (1 + a["lr"] * a["weight_decay"])


def ftrl(x, g, t, s, a):
    """McMahan et al. 2013, algorithm 1, with the names and the shrinkage of Keras' Ftrl; its power of the rate is -1/2."""
    lr, l1 = a["lr"], a["l1"]
    n = s.get("n", np.full_like(x, a["initial_accumulator"]))
    s["n"] = n + g * g
    sigma = (np.sqrt(s["n"]) - np.sqrt(n)) / lr
    s["z"] = kept(s, "z", x) + g + 2 * a["l2_shrinkage"] * x - sigma * x
    slope = np.sqrt(s["n"]) / lr + 2 * (a["l2"] + a["beta"] / (2 * lr))
    return (np.clip(s["z"], -l1, l1) - s["z"]) / slope


def schedule_free(x, d, t, s, a, beta):
    """Defazio et al. 2024, algorithm 1 in the form of the authors' program, which keeps y (here x) and z alone."""
    lr = a["lr"] * min(1.0, t / max(a["warm_up"], 1))
    s["largest"] = max(lr, s.get("largest", 0.0))
    weight = t ** a["r"] * s["largest"] ** a["weight_lr_power"]
    s["sum"] = s.get("sum", 0.0) + weight
    c = weight / s["sum"] if s["sum"] > 0 else 0.0
    d = d + a["weight_decay"] * x
    z = s.get("z", x)
    y = (1 - c) * x + c * z + lr * (beta * (1 - c) - 1) * d
    s["z"] = z - lr * d
    return y


def schedule_free_sgd(x, g, t, s, a):
    return schedule_free(x, g, t, s, a, a["momentum"])


def schedule_free_adamw(x, g, t, s, a):
    b1, b2 = a["betas"]
    s["v"] = b2 * kept(s, "v", x) + (1 - b2) * g * g
    return schedule_free(x, g / (np.sqrt(s["v"] / (1 - b2**t)) + a["eps"]), t, s, a, b1)


def muon(x, g, t, s, a):
    """Jordan et al. 2024, as torch.optim.Muon has it, but for its iteration in bfloat16."""
    a = {"weight_decay": 0.1, "momentum": 0.95, "nesterov": True, "ns_steps": 5, "adjust_lr_fn": "original", **a}
    mu = a["momentum"]
    s["momentum"] = mu * kept(s, "momentum", x) + (1 - mu) * g
    u = mu * s["momentum"] + (1 - mu) * g if a["nesterov"] else s["momentum"]
    tall = x.shape[0] > x.shape[1]
    o = u.T if tall else u
    o = o / max(norm(o), 1e-7)
    for _ in range(a["ns_steps"]):
        gram = o @ o.T
        o = 3.4445 * o + (-4.775 * gram + 2.0315 * gram @ gram) @ o
    o = o.T if tall else o
    rows, columns = x.shape
    ratio = max(1.0, rows / columns) ** 0.5
    if a["adjust_lr_fn"] == "match_rms_adamw":
        ratio = 0.2 * max(rows, columns) ** 0.5
    return (x * (1 - a["lr"] * a["weight_decay"]) - a["lr"] * ratio * o).astype(x.dtype)


MUON = {
    "lr": 0.02,
    "weight_decay": 0.2,
    "momentum": 0.8,
    "nesterov": False,
    "ns_steps": 3,
    "adjust_lr_fn": "match_rms_adamw",
}


# The cases


def pytorch_cases():
    optim = torch.optim
    pytorch("adam_defaults", "adam", optim.Adam, lr=0.01)
    pytorch("adam_l2", "adam", optim.Adam, lr=0.01, weight_decay=0.1)
    pytorch("adam_amsgrad", "adam", optim.Adam, lr=0.02, amsgrad=True, moments={"v_max": "max_exp_avg_sq"})
    adam = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.05}
    pytorch("adam_other", "adam", optim.Adam, **adam, amsgrad=True, maximize=True)
    pytorch("adamw_defaults", "adamw", optim.AdamW, lr=0.01)
    pytorch("adamw_other", "adamw", optim.AdamW, **adam)
    pytorch("adamw_amsgrad", "adamw", optim.AdamW, **adam, amsgrad=True)
    pytorch("adamw_maximize", "adamw", optim.AdamW, lr=0.01, betas=(0.0, 0.9), maximize=True)

    pytorch("adamax_defaults", "adamax", optim.Adamax, lr=0.01)
    adamax = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.05}
    pytorch("adamax_other", "adamax", optim.Adamax, **adamax)
    pytorch("adamax_maximize", "adamax", optim.Adamax, **adamax, maximize=True)

    pytorch("nadam_defaults", "nadam", optim.NAdam, lr=0.01)
    nadam = {**adam, "momentum_decay": 0.05}
    pytorch("nadam_l2", "nadam", optim.NAdam, **nadam)
    pytorch("nadam_decoupled", "nadam", optim.NAdam, **nadam, decoupled_weight_decay=True)
    pytorch("nadam_maximize", "nadam", optim.NAdam, **nadam, maximize=True)

    pytorch("radam_defaults", "radam", optim.RAdam, lr=0.01)
    pytorch("radam_l2", "radam", optim.RAdam, **adam)
    pytorch("radam_decoupled", "radam", optim.RAdam, **adam, decoupled_weight_decay=True)
    pytorch("radam_maximize", "radam", optim.RAdam, lr=0.01, betas=(0.9, 0.9), maximize=True)
    pytorch("radam_never_rectified", "radam", optim.RAdam, lr=0.01, betas=(0.9, 0.6))

    pytorch("adagrad_defaults", "adagrad", optim.Adagrad, lr=0.1)
    adagrad = {"lr": 0.1, "lr_decay": 0.02, "weight_decay": 0.05, "initial_accumulator_value": 0.5, "eps": 1e-3}
    pytorch("adagrad_other", "adagrad", optim.Adagrad, **adagrad)
    pytorch("adagrad_maximize", "adagrad", optim.Adagrad, **adagrad, maximize=True)

    pytorch("adadelta_defaults", "adadelta", optim.Adadelta)
    adadelta = {"lr": 0.5, "rho": 0.95, "eps": 1e-4, "weight_decay": 0.05}
    pytorch("adadelta_other", "adadelta", optim.Adadelta, **adadelta)
    pytorch("adadelta_maximize", "adadelta", optim.Adadelta, **adadelta, maximize=True)

    pytorch("rmsprop_defaults", "rmsprop", optim.RMSprop, lr=0.01)
    pytorch("rmsprop_momentum", "rmsprop", optim.RMSprop, lr=0.005, momentum=0.9)
    pytorch("rmsprop_centered", "rmsprop", optim.RMSprop, lr=0.005, centered=True)
    rmsprop = {"lr": 0.003, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.05, "momentum": 0.7}
    pytorch("rmsprop_other", "rmsprop", optim.RMSprop, **rmsprop, centered=True)
    pytorch("rmsprop_maximize", "rmsprop", optim.RMSprop, **rmsprop, centered=False, maximize=True)

    pytorch("rprop_defaults", "rprop", optim.Rprop)
    rprop = {"lr": 0.02, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)}
    pytorch("rprop_other", "rprop", optim.Rprop, **rprop)
    pytorch("rprop_maximize", "rprop", optim.Rprop, **rprop, maximize=True)

    average = {"average": "ax"}
    pytorch("asgd_defaults", "asgd", optim.ASGD, average)
    asgd = {"lr": 0.05, "lambd": 0.01, "alpha": 0.5, "t0": 20.0, "weight_decay": 0.05}
    pytorch("asgd_other", "asgd", optim.ASGD, average, **asgd)
    pytorch("asgd_maximize", "asgd", optim.ASGD, average, lr=0.02, lambd=0.3, alpha=1.5, t0=0.0, maximize=True)

    pytorch("sgd_plain", "sgd", optim.SGD, lr=0.02)
    sgd = {"lr": 0.01, "momentum": 0.9}
    pytorch("sgd_momentum", "sgd", optim.SGD, **sgd)
    pytorch("sgd_dampening", "sgd", optim.SGD, **sgd, dampening=0.4, weight_decay=0.05)
    pytorch("sgd_nesterov", "sgd", optim.SGD, **sgd, nesterov=True, weight_decay=0.05)
    pytorch("sgd_maximize", "sgd", optim.SGD, **sgd, maximize=True, weight_decay=0.05)

    # The first eps, where it is not given, is that of the parameter's type.
    adafactor = {"eps": (2.0**-23, 1e-3)}
    pytorch("adafactor_defaults", "adafactor", optim.Adafactor, **adafactor)
    other = {"lr": 0.05, "beta2_decay": -0.5, "eps": (1e-4, 0.1), "d": 1.3, "weight_decay": 0.1}
    pytorch("adafactor_other", "adafactor", optim.Adafactor, **other)
    pytorch("adafactor_maximize", "adafactor", optim.Adafactor, **adafactor, lr=0.02, maximize=True)

    # Muon takes matrices alone. PyTorch iterates in bfloat16, which leaves two or three digits.
    pytorch("muon_bfloat16", "muon", optim.Muon, lr=0.01, matrix_only=True)
    pytorch("muon_bfloat16_other", "muon", optim.Muon, **MUON, matrix_only=True)


def plain_cases():
    plain("lion_defaults", "lion", lion, lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    plain("lion_other", "lion", lion, lr=0.003, betas=(0.95, 0.98), weight_decay=0.3)

    adam = {"lr": 0.02, "betas": (0.9, 0.999), "eps": 1e-6}
    plain("lamb_defaults", "lamb", lamb, **adam, weight_decay=0.01)
    plain("lamb_no_decay", "lamb", lamb, **adam, weight_decay=0.0)
    plain("lamb_other", "lamb", lamb, lr=0.01, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.5)

    lars_of = {"lr": 1.0, "momentum": 0.9, "trust": 0.005, "eps": 1e-8, "nesterov": False, "weight_decay": 0.0}
    plain("lars_defaults", "lars", lars, **lars_of)
    plain("lars_nesterov", "lars", lars, **{**lars_of, "nesterov": True, "weight_decay": 0.1})
    plain("lars_other", "lars", lars, **{**lars_of, "momentum": 0.0, "trust": 0.02, "eps": 0.1, "weight_decay": 0.05})

    adan_of = {"lr": 0.01, "betas": (0.98, 0.92, 0.99), "eps": 1e-8, "weight_decay": 0.0}
    plain("adan_defaults", "adan", adan, **adan_of)
    plain("adan_other", "adan", adan, lr=0.02, betas=(0.9, 0.8, 0.95), eps=1e-3, weight_decay=0.2)

    ftrl_of = {"lr": 0.1, "initial_accumulator": 0.1, "l1": 0.0, "l2": 0.0, "l2_shrinkage": 0.0, "beta": 0.0}
    plain("ftrl_defaults", "ftrl", ftrl, moments=("z", "n"), **ftrl_of)
    plain("ftrl_l1", "ftrl", ftrl, **{**ftrl_of, "lr": 0.5, "l1": 2.0})
    plain("ftrl_other", "ftrl", ftrl, **{**ftrl_of, "l1": 0.1, "l2": 0.3, "l2_shrinkage": 0.05, "beta": 0.7})

    free = {"weight_decay": 0.0, "warm_up": 0, "r": 0.0, "weight_lr_power": 2.0}
    other = {"weight_decay": 0.05, "warm_up": 20, "r": 0.7, "weight_lr_power": 1.5}
    both = ("schedule_free_sgd", schedule_free_sgd)
    plain("schedule_free_sgd_defaults", *both, moments=("z",), lr=0.05, momentum=0.9, **free)
    plain("schedule_free_sgd_other", *both, moments=("z",), lr=0.1, momentum=0.7, **other)
    both = ("schedule_free_adamw", schedule_free_adamw)
    adam = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
    plain("schedule_free_adamw_defaults", *both, moments=("z",), **adam, **free)
    adam = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-4}
    plain("schedule_free_adamw_other", *both, moments=("z",), **adam, **other)

    plain("muon_defaults", "muon", muon, lr=0.01, matrix_only=True)
    plain("muon_other", "muon", muon, **MUON, matrix_only=True)


def verify(path, metadata):
    """Reads the file back."""
    with safe_open(path, framework="np") as file:
        assert file.metadata() == metadata
        assert set(file.keys()) == set(tensors)
        for name in file.keys():
            assert file.get_tensor(name).tobytes() == tensors[name].tobytes(), name


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/optimizers.py tests/data/optimizers.safetensors")
    path = sys.argv[1]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pytorch_cases()
    plain_cases()
    covered = {case["op"] for case in cases}
    listed = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    missing = {name for name in listed - {"Optimizer", "LBFGS", "SparseAdam"} if name.lower() not in covered}
    assert not missing, f"no case of {missing}"
    text = json.dumps(cases, separators=(",", ":"))
    metadata = {"cases": text, "steps": json.dumps(STEPS), "made_with": f"PyTorch {torch.__version__}"}
    save_file(tensors, path, metadata=metadata)
    verify(path, metadata)
    for case in cases:
        exact, single = (tensors[name] for name in case["outputs"][:2])
        errors = [np.linalg.norm(s - e) / np.linalg.norm(e) for s, e in zip(single.astype(np.float64), exact)]
        print(f"{case['name']:32} moved {np.linalg.norm(exact[-1] - exact[0]):.2e}, in float32 {max(errors):.1e}")
    print(f"{path}: {len(cases)} cases of {len(covered)} optimizers")


if __name__ == "__main__":
    main()
