#!/usr/bin/env python3
"""Makes the values that Kiln's L-BFGS is compared with.

    pip install torch numpy safetensors
    python3 scripts/lbfgs.py tests/data/lbfgs.safetensors

The stored file was made with the version of PyTorch that its metadata entry
`made_with` names.

What is run
-----------
torch.optim.LBFGS in float64 on functions without noise:

    rosenbrock   sum over i of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2, from
                 -1.2, 1, -1.2, 1, ..
    quadratic    sum over i of 1000^(i / (n - 1)) (x[i] - i)^2 / 2, from 0
    logistic     mean of ln(1 + e^z) - t z with z = data x, plus |x|^2 / 200,
                 from 0

The file
--------
The metadata entry `cases` is a JSON list. Each case is an object:

    name      unique name
    op        the function
    attrs     the settings, by PyTorch's names; n, how many numbers x has; steps,
              how many calls of `step` there are
    inputs    for logistic data [m, n] and t [m], F32; else empty
    outputs   names of tensors, all F64, with a row for each call:
              x [steps, n] behind it, the loss [steps] that it returned, and
              [steps, 2] how many iterations and evaluations there were so far
"""

import json
import sys

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

tensors = {}
cases = []


def rosenbrock(x, _):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def quadratic(x, _):
    n = x.numel()
    target = torch.arange(n, dtype=x.dtype)
    return (1000.0 ** (target / (n - 1)) * (x - target) ** 2).sum() / 2


def logistic(x, given):
    data, t = given
    z = data @ x
    return torch.nn.functional.binary_cross_entropy_with_logits(z, t) + (x**2).sum() / 200


FUNCTIONS = {"rosenbrock": rosenbrock, "quadratic": quadratic, "logistic": logistic}


def start(op, n):
    first = np.where(np.arange(n) % 2 == 0, -1.2, 1.0) if op == "rosenbrock" else np.zeros(n)
    return torch.tensor(first, dtype=torch.float64)


def add(name, op, n, steps, **settings):
    given = []
    if op == "logistic":
        rng = np.random.default_rng(7)
        data = rng.standard_normal((37, n)).astype(np.float32)
        given = [data, (data[:, 0] + rng.standard_normal(37) > 0).astype(np.float32)]
    inputs = []
    for kind, values in zip(("data", "t"), given):
        tensors[f"{name}.{kind}"] = values
        inputs.append(f"{name}.{kind}")
    wide = [torch.tensor(values, dtype=torch.float64) for values in given]
    x = start(op, n).requires_grad_()
    optimizer = torch.optim.LBFGS([x], **settings)

    def closure():
        optimizer.zero_grad()
        loss = FUNCTIONS[op](x, wide)
        loss.backward()
        return loss

    rows, losses, counts = [], [], []
    for _ in range(steps):
        losses.append(optimizer.step(closure).item())
        rows.append(x.detach().numpy().copy())
        state = optimizer.state[x]
        counts.append([float(state["n_iter"]), float(state["func_evals"])])
    outputs = []
    for kind, values in (("x", rows), ("loss", losses), ("counts", counts)):
        tensors[f"{name}.{kind}"] = np.array(values, dtype=np.float64)
        outputs.append(f"{name}.{kind}")
    attrs = {**settings, "n": n, "steps": steps}
    cases.append({"name": name, "op": op, "attrs": attrs, "inputs": inputs, "outputs": outputs})
    end = float(FUNCTIONS[op](x, wide))
    print(f"{name:28} loss {losses[0]:.3e} to {end:.3e}, iterations and evaluations {counts[-1]}")


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/lbfgs.py tests/data/lbfgs.safetensors")
    torch.set_num_threads(1)
    wolfe = {"line_search_fn": "strong_wolfe"}
    add("rosenbrock_2_wolfe", "rosenbrock", 2, 40, max_iter=1, max_eval=25, **wolfe)
    add("rosenbrock_10_wolfe", "rosenbrock", 10, 5, max_iter=7, history_size=5, **wolfe)
    add("rosenbrock_2_far", "rosenbrock", 2, 5, max_iter=4, lr=30.0, max_eval=40, **wolfe)
    add("rosenbrock_2_none", "rosenbrock", 2, 30, max_iter=1, lr=0.1)
    add("quadratic_none", "quadratic", 10, 6, max_iter=5, lr=0.7, history_size=3)
    add("quadratic_wolfe", "quadratic", 10, 4, **wolfe)
    add("logistic_none", "logistic", 5, 3)
    add("logistic_wolfe", "logistic", 5, 3, max_iter=6, max_eval=5, **wolfe)
    metadata = {"cases": json.dumps(cases, separators=(",", ":")), "made_with": f"PyTorch {torch.__version__}"}
    save_file(tensors, sys.argv[1], metadata=metadata)
    with safe_open(sys.argv[1], framework="np") as file:
        assert set(file.keys()) == set(tensors)
    print(f"{sys.argv[1]}: {len(cases)} cases")


if __name__ == "__main__":
    main()
