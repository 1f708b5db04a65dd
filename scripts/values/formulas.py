#!/usr/bin/env python3
"""Values of formulas and of pieces of tensors; see scripts/pytorch_values.py.

    python3 scripts/values/formulas.py tests/data/values/formulas.safetensors
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pytorch_values as values


def plain(name, attrs, shapes, function):
    rng = values.generator(name)
    inputs = [values.normal(rng, shape) for shape in shapes]
    values.case(name, name.split("/")[0], attrs, inputs, function)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/formulas.py tests/data/values/formulas.safetensors")
    values.prepare()
    plain("chunk", {"axis": -1, "count": 3}, [(5, 7)], lambda x: list(x.chunk(3, -1)))
    plain("chunk/fewer", {"axis": 0, "count": 4}, [(5, 7)], lambda x: list(x.chunk(4, 0)))
    plain("select", {"axis": 1, "index": -2}, [(5, 7, 3)], lambda x: x.select(1, -2))
    plain("unbind", {"axis": -2}, [(5, 3, 2)], lambda x: list(x.unbind(-2)))
    plain("unflatten", {"axis": 1, "sizes": [3, 2]}, [(5, 6)], lambda x: x.unflatten(1, (3, 2)))
    plain("movedim", {"from": 0, "to": -1}, [(5, 3, 2)], lambda x: x.movedim(0, -1))
    plain("movedim/forward", {"from": -1, "to": 0}, [(5, 3, 2)], lambda x: x.movedim(-1, 0))
    plain("diff", {"axis": -1}, [(5, 7)], lambda x: x.diff(dim=-1))
    plain("diff/first", {"axis": 0}, [(5, 7)], lambda x: x.diff(dim=0))
    plain("cov", {"correction": 1}, [(5, 37)], lambda x: x.cov(correction=1))
    plain("cov/biased", {"correction": 0}, [(5, 37)], lambda x: x.cov(correction=0))
    plain("corrcoef", {}, [(5, 37)], lambda x: x.corrcoef())

    rng = values.generator("xlogy")
    x, y = values.normal(rng, (5, 7)), values.uniform(rng, (7,), 0.1, 3.0)
    values.case("xlogy", "xlogy", {}, [x, y], torch.xlogy)
    x, y = values.f32([0.0, 0.0, 2.0, -0.0]), values.f32([0.0, -1.0, 3.0, 5.0])
    values.case("xlogy/zero", "xlogy", {}, [x, y], torch.xlogy, without_gradient=(0, 1))
    share = values.uniform(values.generator("logit"), (5, 7), 0.01, 0.99)
    values.case("logit", "logit", {"epsilon": 0.0}, [share], torch.logit)
    values.case("logit/epsilon", "logit", {"epsilon": 0.25}, [share], lambda x: torch.logit(x, 0.25))
    signs = values.f32([-2.0, 0.0, -0.0, 3.0])
    half = torch.tensor(0.5, dtype=torch.float64)
    values.case("heaviside", "heaviside", {"at_zero": 0.5}, [signs], lambda x: torch.heaviside(x.detach(), half))
    x, y = values.f32([1.0, 1.0, 2.0, 0.0]), values.f32([1.0, 1.0001, 2.1, 1e-9])
    close = {"relative": 1e-3, "absolute": 1e-8}
    values.case("is_close", "is_close", close, [x, y], lambda x, y: x.isclose(y, 1e-3, 1e-8))
    counted = values.f32([[0.0, 1.0, -2.0], [0.0, 0.0, 3.0]])
    values.case("count_nonzero", "count_nonzero", {"axis": -1}, [counted], lambda x: x.detach().count_nonzero(-1))
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
