#!/usr/bin/env python3
"""Makes the learning rates that Kiln's schedules are compared with.

    pip install torch numpy keras
    KERAS_BACKEND=torch python3 scripts/schedules.py tests/data/schedules.json

The stored file was made with the versions that its entry `made_with` names.

The file
--------
    steps    1000: cases go from step 0 to this one
    stride   7: values are stored at every seventh step, because 1,000 steps of
             every case would be ten times as much; 7 is prime to the periods
             of the cases, so all places of a period are met
    classes  the public schedulers of torch.optim.lr_scheduler and of
             keras.optimizers.schedules, which all must have a case
    cases    name, class, library ("torch" or "keras"), `at` (further steps: each
             change and its neighbours), and `rates`, one for each multiple of
             the stride, then one for each of `at`; `momenta` likewise where
             the class has them
    plateaus name, `metrics` (null is NaN), and `changes`, pairs of the index of
             a metric and the rate from it on

How values come about
---------------------
All are those of the real classes, in float64. PyTorch's schedulers go from rate
to rate, and their roundings add up; where a class has a closed form as well
(`_get_closed_form_lr`), that is stored, and the rates of the real loop are held
to it within 1e-9 of the first rate here. The others (MultiplicativeLR,
SequentialLR, ChainedScheduler) are stored as the loop gives them, and held to
the product of closed forms within 1e-12 of it.
"""

import json
import math
import os
import sys
import warnings

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from torch.optim import lr_scheduler

STEPS = 1000
STRIDE = 7

cases = []
plateaus = []


def around(*changes):
    """The steps of changes and their neighbours."""
    steps = {step + by for step in changes for by in (-1, 0, 1)}
    return sorted(step for step in steps if 0 <= step <= STEPS)


def chosen(values, at):
    """The values that are stored of those of all steps."""
    return [values[step] for step in range(0, STEPS + 1, STRIDE)] + [values[step] for step in at]


def add(library, name, kind, at, rates, momenta=None):
    assert len(rates) == STEPS + 1 and all(math.isfinite(rate) for rate in rates), name
    assert all(name != case["name"] for case in cases), name
    case = {"name": name, "class": kind, "library": library, "at": at, "rates": chosen(rates, at)}
    if momenta:
        case["momenta"] = chosen(momenta, at)
    cases.append(case)


def optimizer(lr):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def looped(lr, make):
    """Rates and momenta as a training loop sees them."""
    sgd = optimizer(lr)
    scheduler = make(sgd)
    rates, momenta = [], []
    for step in range(STEPS + 1):
        rates.append(float(sgd.param_groups[0]["lr"]))
        momenta.append(float(sgd.param_groups[0]["momentum"]))
        if step < STEPS:
            sgd.step()
            scheduler.step()
    return rates, momenta


def closed(lr, make):
    """Rates by the closed form of a class."""
    scheduler = make(optimizer(lr))
    rates = []
    for step in range(STEPS + 1):
        scheduler.last_epoch = step
        rates.append(float(scheduler._get_closed_form_lr()[0]))
    return rates


def torch_case(name, lr, make, at, momenta=False, by=None):
    """A case of PyTorch; `by` gives the rates in closed form for classes that have none, to hold theirs to."""
    loop, loop_momenta = looped(lr, make)
    kind = type(make(optimizer(lr))).__name__
    rates = loop
    if hasattr(getattr(lr_scheduler, kind), "_get_closed_form_lr"):
        rates = closed(lr, make)
        assert max(abs(a - b) for a, b in zip(loop, rates)) <= 1e-9 * max(rates), name
    if by:
        for a, b in zip(rates, by, strict=True):
            assert abs(a - b) <= 1e-12 * max(abs(b), 1e-3 * max(by)), (name, a, b)
    add("torch", name, kind, at, rates, loop_momenta if momenta else None)


def torch_cases():
    S = lr_scheduler
    torch_case("step", 0.1, lambda o: S.StepLR(o, 90, 0.5), around(90, 180, 270, 900, 990))
    torch_case("multi_step", 0.1, lambda o: S.MultiStepLR(o, [100, 350, 350, 800], 0.3), around(100, 350, 800))
    torch_case("constant", 0.1, lambda o: S.ConstantLR(o, 0.25, 40), around(40))
    torch_case("linear", 0.1, lambda o: S.LinearLR(o, 0.2, 0.7, 613), around(613))
    torch_case("exponential", 0.1, lambda o: S.ExponentialLR(o, 0.993), [])
    torch_case("polynomial", 0.1, lambda o: S.PolynomialLR(o, 611, 0.9), around(611))
    torch_case("polynomial_2", 0.1, lambda o: S.PolynomialLR(o, 1200, 2.0), [])
    torch_case("cosine", 0.1, lambda o: S.CosineAnnealingLR(o, 1000, 1e-3), around(1000))
    torch_case("cosine_to_0", 0.1, lambda o: S.CosineAnnealingLR(o, 1000), around(1000))
    torch_case("cosine_wave", 0.1, lambda o: S.CosineAnnealingLR(o, 150, 1e-3), around(150, 300, 450, 900))
    restarts = S.CosineAnnealingWarmRestarts
    torch_case("restarts", 0.1, lambda o: restarts(o, 130, 1, 1e-3), around(130, 260, 910))
    torch_case("restarts_2", 0.1, lambda o: restarts(o, 30, 2, 1e-3), around(30, 90, 210, 450, 930))
    torch_case("restarts_3", 0.1, lambda o: restarts(o, 25, 3), around(25, 100, 325))

    one = S.OneCycleLR
    torch_case("one_cycle", 0.1, lambda o: one(o, 0.5, 1001), around(299, 300, 1000), True)
    torch_case(
        "one_cycle_linear", 0.1,
        lambda o: one(o, 0.5, 1003, pct_start=0.21, anneal_strategy="linear", div_factor=10, final_div_factor=100),
        around(210), True,
    )  # fmt: skip
    torch_case(
        "one_cycle_three", 0.1,
        lambda o: one(o, 0.5, 1017, pct_start=0.37, three_phase=True, base_momentum=0.7, max_momentum=0.99),
        around(375, 751), True,
    )  # fmt: skip
    torch_case("one_cycle_fall", 0.1, lambda o: one(o, 0.5, 1001, pct_start=0.0), [1, 2, 1000], True)

    cyclic = S.CyclicLR
    torch_case("cyclic", 0.1, lambda o: cyclic(o, 0.01, 0.1, 60), around(60, 120, 180, 960), True)
    torch_case(
        "cyclic_2", 0.1,
        lambda o: cyclic(o, 0.01, 0.1, 50, 80, mode="triangular2"), around(50, 130, 180, 910), True,
    )  # fmt: skip
    torch_case(
        "cyclic_exp", 0.1,
        lambda o: cyclic(o, 0.01, 0.1, 50, 30, "exp_range", 0.997, base_momentum=0.6, max_momentum=0.95),
        around(50, 80, 130, 960), True,
    )  # fmt: skip

    torch_case("lambda", 0.1, lambda o: S.LambdaLR(o, lambda t: 1.0 / (1.0 + t % 17)), around(17, 34))
    width, warm = 512, 400
    noam = lambda t: width**-0.5 * min((t + 1) ** -0.5, (t + 1) * warm**-1.5)
    torch_case("noam", 1.0, lambda o: S.LambdaLR(o, noam), around(399))
    root = lambda t: t / 100 if t < 100 else math.sqrt(100 / t)
    torch_case("inverse_sqrt", 0.1, lambda o: S.LambdaLR(o, root), around(100))

    factor = lambda t: 0.99 if t % 3 else 1.01
    products = [0.1 * math.prod(factor(t) for t in range(1, step + 1)) for step in range(STEPS + 1)]
    torch_case("multiplicative", 0.1, lambda o: S.MultiplicativeLR(o, factor), around(256, 512, 768), by=products)

    def in_turn(o):
        first = S.LinearLR(o, 0.25, 1.0, 100)
        second = S.ExponentialLR(o, 0.995)
        third = S.StepLR(o, 50, 0.5)
        return S.SequentialLR(o, [first, second, third], [100, 600])

    first = closed(0.1, lambda o: S.LinearLR(o, 0.25, 1.0, 100))
    second = closed(0.1, lambda o: S.ExponentialLR(o, 0.995))
    third = closed(0.1, lambda o: S.StepLR(o, 50, 0.5))
    by = first[:100] + second[:500] + third[:401]
    torch_case("sequential", 0.1, in_turn, around(100, 600, 650), by=by)

    def chained(o):
        return S.ChainedScheduler([S.ConstantLR(o, 0.1, 20), S.ExponentialLR(o, 0.995), S.StepLR(o, 300, 0.5)], o)

    parts = [
        closed(1.0, lambda o: S.ConstantLR(o, 0.1, 20)),
        closed(1.0, lambda o: S.ExponentialLR(o, 0.995)),
        closed(1.0, lambda o: S.StepLR(o, 300, 0.5)),
    ]
    by = [0.1 * a * b * c for a, b, c in zip(*parts, strict=True)]
    torch_case("chained", 0.1, chained, around(20, 300, 600, 900), by=by)

    def warmed(o):
        return S.ChainedScheduler([S.LinearLR(o, 1 / 51, 1.0, 50), S.PolynomialLR(o, 1200, 1.0)], o)

    parts = [
        closed(1.0, lambda o: S.LinearLR(o, 1 / 51, 1.0, 50)),
        closed(1.0, lambda o: S.PolynomialLR(o, 1200, 1.0)),
    ]
    by = [0.1 * a * b for a, b in zip(*parts, strict=True)]
    torch_case("warm_up", 0.1, warmed, around(50), by=by)


def keras_case(name, schedule, at):
    rates = [float(keras.ops.convert_to_numpy(schedule(keras.ops.convert_to_tensor(step, "float64"))))
             for step in range(STEPS + 1)]  # fmt: skip
    add("keras", name, type(schedule).__name__, at, rates)


def keras_cases():
    keras.config.set_floatx("float64")
    K = keras.optimizers.schedules
    keras_case("keras_exponential", K.ExponentialDecay(0.1, 300, 0.5), [])
    keras_case("keras_staircase", K.ExponentialDecay(0.1, 90, 0.7, staircase=True), around(90, 180, 900, 990))
    pieces = K.PiecewiseConstantDecay([100, 350, 800], [0.1, 0.03, 0.05, 0.001])
    keras_case("keras_piecewise", pieces, around(100, 350, 800))
    keras_case("keras_polynomial", K.PolynomialDecay(0.1, 611, 0.001, 0.5), around(611))
    cycle = K.PolynomialDecay(0.1, 130, 0.001, 2.0, cycle=True)
    keras_case("keras_polynomial_cycle", cycle, around(130, 260, 390, 910))
    keras_case("keras_inverse_time", K.InverseTimeDecay(0.1, 70, 0.5), [])
    keras_case("keras_inverse_time_staircase", K.InverseTimeDecay(0.1, 70, 0.5, staircase=True), around(70, 140, 980))
    keras_case("keras_cosine", K.CosineDecay(0.1, 900, 0.05), around(900))
    keras_case(
        "keras_cosine_warm",
        K.CosineDecay(0.01, 800, 0.05, warmup_target=0.1, warmup_steps=90), around(90, 890),
    )  # fmt: skip
    keras_case("keras_restarts", K.CosineDecayRestarts(0.1, 30, 2.0, 0.8, 0.05), around(30, 90, 210, 450, 930))
    keras_case("keras_restarts_equal", K.CosineDecayRestarts(0.1, 130, 1.0, 0.9, 0.05), around(130, 260, 910))
    keras_case("keras_restarts_1.5", K.CosineDecayRestarts(0.1, 52, 1.5, 1.0, 0.02), around(52, 130, 247, 422))


def metrics(nan):
    """A noisy fall that ends in a plateau, with three decimals; some are NaN if asked for."""
    rng = np.random.default_rng(7)
    noise = rng.standard_normal(STEPS)
    values = [round(float(2.0 * math.exp(-t / 90.0) + 0.5 + 0.02 * noise[t]), 3) for t in range(STEPS)]
    return [None if nan and t % 37 == 36 else value for t, value in enumerate(values)]


def plateau_case(name, nan, **settings):
    values = metrics(nan)
    sgd = optimizer(0.1)
    scheduler = lr_scheduler.ReduceLROnPlateau(sgd, **settings)
    changes, rate = [], 0.1
    for index, value in enumerate(values):
        scheduler.step(math.nan if value is None else value)
        if sgd.param_groups[0]["lr"] != rate:
            rate = float(sgd.param_groups[0]["lr"])
            changes.append([index, rate])
    assert len(changes) > 2, name
    plateaus.append({"name": name, "metrics": values, "changes": changes})


def plateau_cases():
    plateau_case("default", False)
    plateau_case("relative", True, factor=0.5, patience=4, threshold=0.01, cooldown=3, min_lr=1e-4)
    plateau_case("absolute", True, factor=0.7, patience=7, threshold=0.02, threshold_mode="abs", eps=1e-3)
    plateau_case("max", False, mode="max", factor=0.9, patience=60, threshold=0.01, cooldown=20)
    plateau_case("max_absolute", True, mode="max", factor=0.8, patience=30, threshold=0.1, threshold_mode="abs")


def classes():
    bases = {"LRScheduler", "LearningRateSchedule"}
    torch_names = [name for name in lr_scheduler.__all__ if name not in bases]
    module = keras.optimizers.schedules
    # Without the functions that read and write a configuration.
    keras_names = [name for name in dir(module) if name[0].isupper() and name not in bases]
    return {"torch": sorted(torch_names), "keras": sorted(keras_names)}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/schedules.py tests/data/schedules.json")
    path = sys.argv[1]
    warnings.filterwarnings("ignore", module="torch.optim.lr_scheduler")
    torch_cases()
    keras_cases()
    plateau_cases()
    file = {
        "made_with": f"PyTorch {torch.__version__}, Keras {keras.__version__}",
        "steps": STEPS,
        "stride": STRIDE,
        "classes": classes(),
        "cases": cases,
        "plateaus": plateaus,
    }
    covered = {case["class"] for case in cases} | {"ReduceLROnPlateau"}
    missing = [name for names in file["classes"].values() for name in names if name not in covered]
    assert not missing, missing
    # A line for each case, so that a change shows which.
    text = json.dumps(file, separators=(",", ":"), allow_nan=False).replace('{"name"', '\n{"name"')
    with open(path, "w") as out:
        out.write(text + "\n")
    print(f"{path}: {len(cases)} cases, {len(plateaus)} of plateaus, {len(text)} bytes")


if __name__ == "__main__":
    main()
