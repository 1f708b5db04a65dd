#!/usr/bin/env python3
"""Values of recurrent layers and cells; see scripts/pytorch_values.py.

    python3 scripts/values/recurrent.py tests/data/values/recurrent.safetensors

Operations: lstm gru rnn_tanh rnn_relu, with attrs
    {"sizes": [inputs, hidden], "layers": n, "bidirectional": bool,
     "bias": bool, "batch_first": bool, "start": bool, "lengths": bool,
     "projection": n or null, "unbatched": bool,
     "parameters": [name, ...]}
Inputs: x; the initial states, h and of an LSTM c, where there are any; lengths
(I32) where rows have lengths of their own; then the parameters by their names.
Outputs: the output, then the last states. And lstm_cell, gru_cell,
rnn_tanh_cell, rnn_relu_cell, with {"sizes": .., "bias": .., "parameters": ..}:
x, the states, the parameters; outputs: the states.
"""

import pathlib
import sys

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pytorch_values as values

LAYERS = {
    "lstm": (torch.nn.LSTM, {}, 2),
    "gru": (torch.nn.GRU, {}, 1),
    "rnn_tanh": (torch.nn.RNN, {}, 1),
    "rnn_relu": (torch.nn.RNN, {"nonlinearity": "relu"}, 1),
}
CELLS = {
    "lstm_cell": (torch.nn.LSTMCell, {}, 2),
    "gru_cell": (torch.nn.GRUCell, {}, 1),
    "rnn_tanh_cell": (torch.nn.RNNCell, {}, 1),
    "rnn_relu_cell": (torch.nn.RNNCell, {"nonlinearity": "relu"}, 1),
}


def weights(rng, module, hidden):
    bound = hidden**-0.5
    return [values.uniform(rng, tuple(weight.shape), -bound, bound) for _, weight in module.named_parameters()]


def layer(name, sizes, shape, lengths=None, start=False, batch_first=False, layers=1, bidirectional=False, bias=True,
          projection=None, unbatched=False):
    """`shape` is [steps, batch]; without the second where `unbatched`."""
    op = name.split("/")[0]
    kind, more, states = LAYERS[op]
    rng = values.generator(name)
    inputs, hidden = sizes
    steps, batch = shape
    settings = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "batch_first": batch_first}
    if projection:
        settings["proj_size"] = projection
    module = kind(inputs, hidden, dtype=torch.float64, **settings, **more)
    names = [parameter for parameter, _ in module.named_parameters()]
    arrays = [values.normal(rng, (batch, steps, inputs) if batch_first else (steps, batch, inputs))]
    if start:
        number = layers * (2 if bidirectional else 1)
        widths = [projection or hidden, hidden][:states]
        arrays += [values.normal(rng, (number, batch, width)) for width in widths]
    if unbatched:
        arrays = [array[:, 0] for array in arrays]
    if lengths is not None:
        arrays.append(values.np.asarray(lengths, dtype=values.np.int32))
    arrays += weights(rng, module, hidden)

    def run(x, *rest):
        rest = list(rest)
        first = None
        if start:
            first = tuple(rest[:states]) if states > 1 else rest[0]
            rest = rest[states:]
        if lengths is not None:
            x = pack_padded_sequence(x, rest.pop(0), batch_first=batch_first, enforce_sorted=False)
        output, last = torch.func.functional_call(module, dict(zip(names, rest)), (x, first))
        if lengths is not None:
            output, _ = pad_packed_sequence(output, batch_first=batch_first, total_length=steps)
        return [output, *(last if states > 1 else [last])]

    attrs = {
        "sizes": list(sizes),
        "layers": layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "batch_first": batch_first,
        "start": start,
        "lengths": lengths is not None,
        "projection": projection,
        "unbatched": unbatched,
        "parameters": names,
    }
    values.case(name, op, attrs, arrays, run)


def cell(name, sizes, batch, bias=True):
    op = name.split("/")[0]
    kind, more, states = CELLS[op]
    rng = values.generator(name)
    inputs, hidden = sizes
    module = kind(inputs, hidden, bias=bias, dtype=torch.float64, **more)
    names = [parameter for parameter, _ in module.named_parameters()]
    arrays = [values.normal(rng, (batch, inputs))]
    arrays += [values.normal(rng, (batch, hidden)) for _ in range(states)]
    arrays += weights(rng, module, hidden)

    def run(x, *rest):
        state = tuple(rest[:states]) if states > 1 else rest[0]
        last = torch.func.functional_call(module, dict(zip(names, rest[states:])), (x, state))
        return list(last) if states > 1 else [last]

    values.case(name, op, {"sizes": list(sizes), "bias": bias, "parameters": names}, arrays, run)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/recurrent.py tests/data/values/recurrent.safetensors")
    values.prepare()
    rows = [7, 1, 5, 3]
    for op in LAYERS:
        layer(op, (3, 5), (7, 3))
        layer(f"{op}/lengths", (3, 5), (7, 4), lengths=rows, start=True, bidirectional=True)
    layer("lstm/deep", (3, 4), (7, 4), lengths=rows, layers=2, bidirectional=True, batch_first=True)
    layer("lstm/wide", (5, 8), (3, 37), start=True, layers=2, bias=False)
    layer("gru/deep", (3, 8), (7, 4), lengths=rows, start=True, layers=2, bidirectional=True, batch_first=True)
    layer("gru/plain", (3, 5), (2, 1), bias=False)
    layer("lstm/projected", (3, 5), (4, 3), start=True, layers=2, projection=2)
    layer("lstm/projected/lengths", (3, 4), (5, 3), lengths=[2, 5, 1], bidirectional=True, bias=False, projection=3)
    layer("lstm/unbatched", (3, 5), (4, 1), start=True, bidirectional=True, unbatched=True)
    layer("gru/unbatched", (3, 5), (4, 1), unbatched=True)
    for op in CELLS:
        cell(op, (3, 5), 7)
    cell("lstm_cell/plain", (3, 5), 1, bias=False)
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
