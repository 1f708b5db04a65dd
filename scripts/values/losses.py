#!/usr/bin/env python3
"""Values of losses; see scripts/pytorch_values.py.

    python3 scripts/values/losses.py tests/data/values/losses.safetensors

Focal and Dice loss and InfoNCE are written from their papers: PyTorch has none.
"""

import pathlib
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pytorch_values as values

SHAPE = (5, 7)


def each_reduction(op, attrs, inputs, function, suffix="", without_gradient=()):
    """All reductions of an op's first case, the mean of the others."""
    for kind in ["mean"] if suffix else ["mean", "sum", "none"]:
        name = f"{op}{suffix}/{kind}"

        def run(*x):
            return function(*x, reduction=kind)

        values.case(name, op, {**attrs, "reduction": kind}, inputs, run, without_gradient=without_gradient)


def reduced(losses, reduction):
    return {"mean": losses.mean, "sum": losses.sum, "none": lambda: losses}[reduction]()


def pair(name, shape=SHAPE):
    rng = values.generator(name)
    return values.normal(rng, shape), values.normal(rng, shape)


def signs(name, shape):
    return values.f32(values.generator(name).choice([-1.0, 1.0], shape))


def shares(name, shape=SHAPE, low=0.02, high=0.98):
    return values.uniform(values.generator(name), shape, low, high)


def regression():
    x, t = pair("regression")
    each_reduction("mse_loss_with", {}, [x, t], F.mse_loss)
    each_reduction("l1_loss_with", {}, [x, t], F.l1_loss)
    each_reduction("huber_loss_with", {"delta": 0.75}, [x, t], lambda x, t, reduction: F.huber_loss(x, t, reduction, 0.75))
    for beta in (0.5, 0.0):
        each_reduction(
            "smooth_l1_loss",
            {"beta": beta},
            [x, t],
            lambda x, t, reduction: F.smooth_l1_loss(x, t, reduction=reduction, beta=beta),
            suffix=f"_{beta}",
        )
    counts = values.f32(values.integers(values.generator("counts"), SHAPE, 6))
    rates = shares("rates", high=4.0)
    for log_input, full, given in [(True, False, x), (True, True, x), (False, True, rates)]:
        each_reduction(
            "poisson_nll_loss",
            {"log_input": log_input, "full": full, "eps": 2**-10},
            [given, counts],
            lambda x, t, reduction: F.poisson_nll_loss(x, t, log_input, full, eps=2**-10, reduction=reduction),
            suffix=f"_{log_input}_{full}".lower(),
            without_gradient=(1,),
        )
    variance = shares("variance", high=2.0)
    for full in (False, True):
        each_reduction(
            "gaussian_nll_loss",
            {"full": full, "eps": 0.25},
            [x, t, variance],
            lambda x, t, v, reduction: F.gaussian_nll_loss(x, t, v, full=full, eps=0.25, reduction=reduction),
            suffix="_full" if full else "",
        )


def focal(x, t, gamma, alpha, reduction):
    p = torch.sigmoid(x)
    right = p * t + (1 - p) * (1 - t)
    losses = F.binary_cross_entropy_with_logits(x, t, reduction="none") * (1 - right) ** gamma
    return reduced(losses if alpha is None else losses * (alpha * t + (1 - alpha) * (1 - t)), reduction)


def dice(p, t, smooth, reduction):
    axes = tuple(range(1, p.ndim))
    losses = 1 - (2 * (p * t).sum(axes) + smooth) / (p.sum(axes) + t.sum(axes) + smooth)
    return reduced(losses, reduction)


def probabilities():
    p, t = shares("p"), shares("t", low=0.0, high=1.0)
    hard = values.f32(t > 0.5)
    weight, positive = shares("weight", (7,)), shares("positive", (5, 1), 0.5, 3.0)
    each_reduction("binary_cross_entropy", {}, [p, t], F.binary_cross_entropy)
    each_reduction(
        "binary_cross_entropy",
        {"weight": True},
        [p, t, weight],
        lambda p, t, w, reduction: F.binary_cross_entropy(p, t, w, reduction=reduction),
        suffix="_weighted",
        without_gradient=(1, 2),
    )
    x, _ = pair("logits")
    x = 3 * x
    op = "binary_cross_entropy_with_logits_and"
    for given, kinds in [([], "plain"), ([weight], "weight"), ([positive], "pos"), ([weight, positive], "both")]:

        def run(x, t, *more, reduction):
            w = more[0] if kinds in ("weight", "both") else None
            p = more[-1] if kinds in ("pos", "both") else None
            return F.binary_cross_entropy_with_logits(x, t, w, pos_weight=p, reduction=reduction)

        attrs = {"weight": kinds in ("weight", "both"), "pos_weight": kinds in ("pos", "both")}
        each_reduction(op, attrs, [x, t, *given], run, suffix=f"_{kinds}", without_gradient=(2, 3))
    for gamma, alpha in [(2.0, 0.25), (0.5, None), (0.0, 0.75)]:
        each_reduction(
            "sigmoid_focal_loss",
            {"gamma": gamma, "alpha": alpha},
            [x, hard],
            lambda x, t, reduction: focal(x, t, gamma, alpha, reduction),
            suffix=f"_{gamma}",
            without_gradient=(1,),
        )
    image, mask = shares("image", (3, 4, 5)), values.f32(shares("mask", (3, 4, 5)) > 0.5)
    each_reduction("dice_loss", {"smooth": 1.0}, [image, mask], lambda p, t, reduction: dice(p, t, 1.0, reduction))
    logs = values.f32(torch.log_softmax(torch.from_numpy(x), 1).numpy())
    target = values.f32(torch.softmax(torch.from_numpy(pair("other")[0]), 1).numpy())
    target[0, 0] = 0.0
    each_reduction("kl_div", {"log_target": False}, [logs, target], F.kl_div, without_gradient=(1,))
    each_reduction(
        "kl_div",
        {"log_target": True},
        [logs, values.f32(pair("other")[1])],
        lambda x, t, reduction: F.kl_div(x, t, reduction=reduction, log_target=True),
        suffix="_log",
    )


def labels():
    rng = values.generator("labels")
    for suffix, shape, own in [("", (9, 5), (9,)), ("_images", (3, 5, 4, 2), (3, 4, 2))]:
        x, t = values.normal(rng, shape), values.integers(rng, own, 5)
        each_reduction("nll_loss", {"ignore": None}, [x, t], F.nll_loss, suffix=suffix)
        w = values.uniform(rng, (5,), 0.25, 2.0)
        t = t.copy()
        t.flat[3] = -100
        each_reduction(
            "nll_loss",
            {"ignore": -100},
            [x, t, w],
            lambda x, t, w, reduction: F.nll_loss(x, t, w, ignore_index=-100, reduction=reduction),
            suffix=suffix + "_options",
            without_gradient=(2,),
        )
    x, t, w = values.normal(rng, (9, 5)), values.integers(rng, (9,), 5), values.uniform(rng, (5,), 0.25, 2.0)
    for p, margin in [(1, 1.0), (2, 0.625)]:
        each_reduction(
            "multi_margin_loss",
            {"p": p, "margin": margin},
            [x, t, w],
            lambda x, t, w, reduction: F.multi_margin_loss(x, t, p, margin, w, reduction=reduction),
            suffix=f"_{p}",
            without_gradient=(2,),
        )
    several = values.integers(rng, (4, 5), 5)
    several[:] = [[3, 0, -1, 1, 2], [-1, 0, 1, 2, 3], [4, 3, 2, 1, 0], [2, -1, -1, -1, -1]]
    each_reduction("multilabel_margin_loss", {}, [x[:4], several], F.multilabel_margin_loss)
    hot = values.f32(values.integers(rng, (9, 5), 2))
    each_reduction(
        "multilabel_soft_margin_loss",
        {},
        [x, hot, w],
        lambda x, t, w, reduction: F.multilabel_soft_margin_loss(x, t, w, reduction=reduction),
        without_gradient=(1, 2),
    )


def info_nce(q, k, temperature, reduction):
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(q)), reduction=reduction)


def pairs():
    x, y = pair("pairs")
    t = signs("signs", SHAPE)
    each_reduction("soft_margin_loss", {}, [x, t], F.soft_margin_loss, without_gradient=(1,))
    each_reduction(
        "hinge_embedding_loss",
        {"margin": 1.25},
        [x, t],
        lambda x, t, reduction: F.hinge_embedding_loss(x, t, 1.25, reduction=reduction),
        without_gradient=(1,),
    )
    each_reduction(
        "margin_ranking_loss",
        {"margin": 0.25},
        [x, y, t],
        lambda x, y, t, reduction: F.margin_ranking_loss(x, y, t, 0.25, reduction=reduction),
        without_gradient=(2,),
    )
    each_reduction(
        "cosine_embedding_loss",
        {"margin": 0.125},
        [x, y, signs("rows", (5,))],
        lambda x, y, t, reduction: F.cosine_embedding_loss(x, y, t, 0.125, reduction=reduction),
        without_gradient=(2,),
    )
    z = values.normal(values.generator("negatives"), SHAPE)
    for p, swap in [(2.0, False), (1.0, True), (3.0, False)]:
        each_reduction(
            "triplet_margin_loss",
            {"margin": 1.125, "p": p, "eps": 1e-6, "swap": swap},
            [x, y, z],
            lambda a, b, c, reduction: F.triplet_margin_loss(a, b, c, 1.125, p, 1e-6, swap, reduction=reduction),
            suffix=f"_{p}",
        )
    each_reduction(
        "info_nce_loss", {"temperature": 0.25}, [x, y], lambda q, k, reduction: info_nce(q, k, 0.25, reduction)
    )


def ctc():
    def add(suffix, frames, classes, labels, inputs, lengths, scale, blank=0, kinds=("mean",), zero_infinity=False):
        rng = values.generator("ctc" + suffix)
        n = len(inputs)
        logits = values.normal(rng, (frames, n, classes), scale)
        # Some labels twice in a row; what stands behind a row's end is no class.
        said = rng.integers(0, 2, (n, labels)).cumsum(1) % (classes - 1)
        said = values.f32(said + (said >= blank)).astype("int32")
        for row, length in enumerate(lengths):
            said[row, length:] = -1
        for kind in kinds:

            def run(logits, said, inputs, lengths):
                return F.ctc_loss(
                    logits.log_softmax(2),
                    said.clamp(min=0),
                    inputs,
                    lengths,
                    blank=blank,
                    reduction=kind,
                    zero_infinity=zero_infinity,
                )

            whole = [values.f32(numbers).astype("int32") for numbers in (inputs, lengths)]
            attrs = {"reduction": kind, "blank": blank, "zero_infinity": zero_infinity}
            values.case(f"ctc_loss{suffix}/{kind}", "ctc_loss", attrs, [logits, said, *whole], run)

    add("", 20, 6, 5, [20, 17, 12, 9], [5, 3, 4, 1], 2.0, kinds=("mean", "sum", "none"))
    add("_blank", 13, 4, 3, [13, 11], [3, 2], 1.0, blank=2)
    add("_long", 400, 4, 60, [400], [60], 1.0, kinds=("sum",))
    add("_infinite", 5, 4, 6, [5, 5], [6, 2], 1.0, kinds=("none",), zero_infinity=True)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/losses.py tests/data/values/losses.safetensors")
    values.prepare()
    regression()
    probabilities()
    labels()
    pairs()
    ctc()
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
