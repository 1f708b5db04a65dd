#!/usr/bin/env python3
"""Lists the public names of PyTorch that docs/from-pytorch.md must have a row for.

    pip install torch numpy
    python3 scripts/pytorch_names.py tests/data/pytorch_names.txt

A line each, sorted: `torch.optim.Adam`. The public names of a module are those
in its `__all__`, of torch.nn.utils those that clip. Besides them: the public
methods of the classes that a training loop calls (`torch.optim.Optimizer.step`),
and each argument that an optimizer takes (`torch.optim.*.maximize`). The first
line says which version it was.
"""

import inspect
import pathlib
import sys

import torch
from torch.nn import init, utils
from torch.optim import lr_scheduler, swa_utils

MODULES = {
    "torch.optim": torch.optim,
    "torch.optim.lr_scheduler": lr_scheduler,
    "torch.optim.swa_utils": swa_utils,
    "torch.nn.init": init,
    "torch.nn.utils": utils,
}
CLASSES = {
    "torch.optim.Optimizer": torch.optim.Optimizer,
    "torch.optim.lr_scheduler.LRScheduler": lr_scheduler.LRScheduler,
    "torch.optim.swa_utils.AveragedModel": swa_utils.AveragedModel,
}


def public(path, module):
    """Public names of a module; of torch.nn.utils those that clip."""
    if path == "torch.nn.utils":
        return [name for name in dir(module) if name.startswith("clip_") or name == "get_total_norm"]
    return module.__all__


def methods(kind):
    """Public methods that a class defines itself."""
    own = vars(kind).items()
    return [name for name, value in own if inspect.isfunction(value) and not name.startswith("_")]


def arguments():
    """What optimizers take besides the parameters."""
    found = set()
    for name, kind in vars(torch.optim).items():
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer":
            found.update(inspect.signature(kind.__init__).parameters)
    return found - {"self", "params"}


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/pytorch_names.py tests/data/pytorch_names.txt")
    lines = {f"{path}.{name}" for path, module in MODULES.items() for name in public(path, module)}
    lines |= {f"{path}.{name}" for path, kind in CLASSES.items() for name in methods(kind)}
    lines |= {f"torch.optim.*.{name}" for name in arguments()}
    # Those that are listed themselves.
    lines -= MODULES.keys() | {"torch.nn.utils.clip_grad"}
    version = torch.__version__.split("+")[0]
    text = "\n".join([f"# PyTorch {version}", *sorted(lines)])
    pathlib.Path(sys.argv[1]).write_text(text + "\n")
    print(f"{sys.argv[1]}: {len(lines)} names of PyTorch {version}")


if __name__ == "__main__":
    main()
