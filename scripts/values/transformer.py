#!/usr/bin/env python3
"""Values of the layers of transformers; see scripts/pytorch_values.py.

    python3 scripts/values/transformer.py tests/data/values/transformer.safetensors

Operations: transformer_encoder_layer transformer_encoder
transformer_decoder_layer transformer_decoder transformer cross_attention, with
attrs
    {"sizes": [features, heads, hidden], "layers": n, "norm": bool,
     "norm_first": bool, "gelu": bool, "bias": bool, "causal": bool,
     "mask": "bool", "float" or null, "lengths": bool,
     "parameters": [name, ...]}
Inputs: x, of the last four a second sequence (the memory; of transformer the
target, of cross_attention keys and values), the mask of x over itself or,
where there is no such thing, of x over the second (I32: 1 where a query sees
a key; or F32: added), the lengths of the rows of x and of the second (I32),
then the parameters by their names. Batches are in front. `causal` is of x over
itself, of transformer of the target. cross_attention has attrs
{"sizes": [features, heads, key features, value features], ..}, and both keys
and values as inputs.
Output: one. All positions count, those behind the lengths, too.
"""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import pytorch_values as values


def padding(lengths, steps):
    """Float, 0 or -inf: what a row has no more of."""
    if lengths is None:
        return None
    behind = torch.arange(steps)[None, :] >= lengths[:, None]
    return torch.zeros(behind.shape, dtype=torch.float64).masked_fill(behind, float("-inf"))


def added(mask, steps, causal):
    """The mask as a float that is added, causal or not."""
    if mask is not None and not mask.is_floating_point():
        mask = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask == 0, float("-inf"))
    if causal:
        later = torch.nn.Transformer.generate_square_subsequent_mask(steps, dtype=torch.float64)
        mask = later if mask is None else mask + later
    return mask


def weights(rng, module):
    """Parameters that are not what they begin with: norms and biases, too."""
    arrays = []
    for name, weight in module.named_parameters():
        shape = tuple(weight.shape)
        scale = (0.5 if len(shape) == 1 else shape[-1] ** -0.5)
        array = values.normal(rng, shape, scale)
        is_norm = "norm" in name and name.endswith("weight")
        arrays.append(values.f32(array + 1.0) if is_norm else array)
    return arrays


def case(name, sizes, shapes, layers=2, norm=True, lengths=None, mask=None, **choices):
    """`shapes` are [batch, steps] of x and, where there is one, of the second sequence."""
    op = name.split("/")[0]
    rng = values.generator(name)
    features, heads, hidden = sizes
    options = {"norm_first": False, "gelu": False, "bias": True, "causal": False} | choices
    common = {
        "d_model": features,
        "nhead": heads,
        "dim_feedforward": hidden,
        "dropout": 0.0,
        "activation": "gelu" if options["gelu"] else "relu",
        "batch_first": True,
        "norm_first": options["norm_first"],
        "bias": options["bias"],
        "dtype": torch.float64,
    }
    last = torch.nn.LayerNorm(features, bias=options["bias"], dtype=torch.float64) if norm else None
    if op.startswith("transformer_encoder"):
        module = torch.nn.TransformerEncoderLayer(**common)
        if op == "transformer_encoder":
            module = torch.nn.TransformerEncoder(module, layers, norm=last, enable_nested_tensor=False)
    elif op.startswith("transformer_decoder"):
        module = torch.nn.TransformerDecoderLayer(**common)
        if op == "transformer_decoder":
            module = torch.nn.TransformerDecoder(module, layers, norm=last)
    else:
        module = torch.nn.Transformer(num_encoder_layers=layers, num_decoder_layers=layers, **common)
    names = [parameter for parameter, _ in module.named_parameters()]
    arrays = [values.normal(rng, (*shape, features)) for shape in shapes]
    steps = [shape[1] for shape in shapes]
    if mask == "bool":
        seen = rng.integers(0, 2, (steps[0], steps[0])).astype(values.np.int32)
        seen[:, 0] = 1  # No query is blind: PyTorch gives NaN there.
        arrays.append(seen)
    elif mask == "float":
        arrays.append(values.normal(rng, (steps[0], steps[0])))
    rows = [] if lengths is None else [values.np.asarray(row, dtype=values.np.int32) for row in lengths]
    arrays += rows
    arrays += weights(rng, module)
    count = len(shapes)

    def run(x, *rest):
        rest = list(rest)
        second = rest.pop(0) if count == 2 else None
        given = rest.pop(0) if mask else None
        ends = [rest.pop(0) for _ in rows] + [None, None]
        parameters = dict(zip(names, rest))
        own = padding(ends[0], steps[0])
        other = padding(ends[1], steps[1]) if count == 2 else None
        if op == "transformer_encoder_layer":
            more = {"src_mask": added(given, steps[0], options["causal"]), "src_key_padding_mask": own}
        elif op == "transformer_encoder":
            more = {"mask": added(given, steps[0], options["causal"]), "src_key_padding_mask": own}
        elif op.startswith("transformer_decoder"):
            more = {
                "tgt_mask": added(given, steps[0], options["causal"]),
                "tgt_key_padding_mask": own,
                "memory_key_padding_mask": other,
            }
        else:
            more = {
                "src_mask": added(given, steps[0], False),
                "tgt_mask": added(None, steps[1], options["causal"]),
                "src_key_padding_mask": own,
                "tgt_key_padding_mask": other,
                "memory_key_padding_mask": own,
            }
        inputs = (x,) if second is None else (x, second)
        return [torch.func.functional_call(module, parameters, inputs, more)]

    attrs = {
        "sizes": list(sizes),
        "layers": layers,
        "norm": norm,
        "mask": mask,
        "lengths": lengths is not None,
        "parameters": names,
        **options,
    }
    values.case(name, op, attrs, arrays, run)


def cross_attention(name, sizes, batch, queries, keys):
    rng = values.generator(name)
    features, heads, key_features, value_features = sizes
    module = torch.nn.MultiheadAttention(
        features, heads, kdim=key_features, vdim=value_features, batch_first=True, dtype=torch.float64
    )
    names = [parameter for parameter, _ in module.named_parameters()]
    arrays = [
        values.normal(rng, (batch, queries, features)),
        values.normal(rng, (batch, keys, key_features)),
        values.normal(rng, (batch, keys, value_features)),
    ]
    arrays += weights(rng, module)

    def run(q, k, v, *rest):
        parameters = dict(zip(names, rest))
        return [torch.func.functional_call(module, parameters, (q, k, v), {"need_weights": False})[0]]

    values.case(name, "cross_attention", {"sizes": list(sizes), "parameters": names}, arrays, run)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python3 scripts/values/transformer.py tests/data/values/transformer.safetensors")
    values.prepare()
    small, rows = (6, 2, 10), [5, 1, 3]
    layer = "transformer_encoder_layer"
    case(layer, small, [(2, 5)])
    case(f"{layer}/lengths", small, [(3, 5)], lengths=[rows], norm_first=True, gelu=True)
    case(f"{layer}/mask", small, [(2, 5)], mask="bool", bias=False)
    case(f"{layer}/bias", small, [(2, 5)], mask="float", causal=True, norm_first=True)
    case("transformer_encoder", small, [(3, 5)], lengths=[rows], norm_first=True, causal=True, gelu=True)
    case("transformer_encoder/plain", (8, 4, 12), [(1, 7)], layers=3, norm=False)
    layer = "transformer_decoder_layer"
    case(layer, small, [(2, 5), (2, 7)])
    case(f"{layer}/lengths", small, [(3, 5), (3, 4)], lengths=[rows, [2, 4, 1]], norm_first=True, causal=True)
    case(f"{layer}/mask", small, [(2, 5), (2, 3)], mask="bool", bias=False, gelu=True)
    case("transformer_decoder", small, [(3, 5), (3, 4)], lengths=[rows, [2, 4, 1]], causal=True)
    case("transformer_decoder/plain", (8, 4, 12), [(1, 7), (1, 2)], norm=False, norm_first=True, gelu=True)
    case("transformer", small, [(3, 5), (3, 4)], lengths=[rows, [2, 4, 1]], causal=True)
    case("transformer/first", small, [(1, 5), (1, 4)], layers=1, mask="float", norm_first=True, bias=False, gelu=True)
    cross_attention("cross_attention/widths", (6, 2, 5, 7), 2, 3, 4)
    cross_attention("cross_attention", (6, 3, 6, 6), 2, 3, 4)
    values.write(sys.argv[1])


if __name__ == "__main__":
    main()
