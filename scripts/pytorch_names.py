#!/usr/bin/env python3
"""Lists the public names of PyTorch that docs/from-pytorch.md must have a row for.

    pip install torch numpy
    python3 scripts/pytorch_names.py tests/data/pytorch_names.txt

A line each, sorted: `torch.optim.Adam`. The public names of a module are those
in its `__all__`, of torch.nn its classes, of torch.nn.utils those that clip. Besides them: the public
methods of the classes that a training loop calls (`torch.optim.Optimizer.step`),
and each argument that an optimizer takes (`torch.optim.*.maximize`). Of
torch.Tensor all methods and of torch.nn.functional all functions, but for twins
that work in place (`add_` beside `add`) and what OTHER lists with a reason; of
torch the functions in FUNCTIONS, which make or join tensors. The first line says
which version it was.
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
    "torch.nn": torch.nn,
    "torch.nn.init": init,
    "torch.nn.utils": utils,
}
CLASSES = {
    "torch.optim.Optimizer": torch.optim.Optimizer,
    "torch.optim.lr_scheduler.LRScheduler": lr_scheduler.LRScheduler,
    "torch.optim.swa_utils.AveragedModel": swa_utils.AveragedModel,
}
# Of torch, what makes or joins tensors and is no method.
FUNCTIONS = """
    arange atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors bucketize cartesian_prod cat cdist
    column_stack combinations concat cumulative_trapezoid dstack einsum empty empty_like eye from_numpy full full_like
    gradient hstack linspace logspace meshgrid no_grad normal ones ones_like poisson rand rand_like randint
    randint_like randn randn_like randperm searchsorted stack tensor tensordot trapezoid tril_indices triu_indices
    vander vmap vstack where zeros zeros_like
"""
# Methods and functions without a row, by reason.
OTHER = {
    "complex numbers": """
        H mH adjoint angle cdouble cfloat chalf conj conj_physical imag real is_complex is_conj is_neg isreal istft
        resolve_conj resolve_neg sgn stft
    """,
    "sparse and quantised tensors": """
        ccol_indices coalesce col_indices crow_indices dense_dim dequantize indices int_repr is_coalesced is_quantized
        is_sparse is_sparse_csr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale
        q_zero_point qscheme resize_as_sparse_ row_indices smm sparse_dim sparse_mask sparse_resize_
        sparse_resize_and_clear_ sspaddmm to_dense to_sparse to_sparse_bsc to_sparse_bsr to_sparse_coo to_sparse_csc
        to_sparse_csr values
    """,
    "how PyTorch keeps a tensor": """
        as_strided as_strided_scatter as_subclass clone const_data_ptr contiguous data data_ptr dim_order element_size
        grad_dtype grad_fn hash_tensor is_contiguous is_distributed is_inference is_leaf is_meta is_nested is_pinned
        is_set_to is_shared itemsize layout module_load name nbytes new new_empty new_empty_strided new_full new_ones
        new_tensor new_zeros numpy output_nr pin_memory record_stream resize resize_as retain_grad retains_grad set_
        share_memory_ slice_inverse storage storage_offset storage_type stride to_padded_tensor type type_as
        unsafe_chunk unsafe_split unsafe_split_with_sizes untyped_storage view_as_complex view_as_real volatile
    """,
    "other devices": """
        cpu cuda get_device ipu is_cpu is_cuda is_ipu is_maia is_mkldnn is_mps is_mtia is_vulkan is_xla is_xpu mtia
        to_mkldnn xpu
    """,
    "hooks and callbacks": """
        apply_ map2_ map_ register_hook register_post_accumulate_grad_hook reinforce
    """,
    "decompositions of matrices": """
        cholesky cholesky_inverse cholesky_solve det eig geqrf inverse logdet lstsq lu lu_solve matrix_exp orgqr ormqr
        pinverse qr slogdet solve svd symeig triangular_solve
    """,
    "not of floats that train": """
        char double float_power frexp gcd i0 igamma igammac lcm ldexp long mvlgamma nextafter polygamma short signbit
    """,
    "machinery": """
        Optional assert_int_or_pair boolean_dispatch handle_torch_function has_torch_function
        has_torch_function_unary has_torch_function_variadic grouped_mm native_channel_shuffle scaled_addmm
        scaled_grouped_mm scaled_mm BroadcastingList1 BroadcastingList2 BroadcastingList3 reproducibility_notes
        sparse_support_notes tf32_notes
    """,
}


def operations(kind):
    """What a tensor or torch.nn.functional can do, without twins in place and without OTHER."""
    names = [name for name in dir(kind) if not name.startswith("_")]
    names = [name for name in names if not inspect.ismodule(getattr(kind, name))]
    left_out = {name for group in OTHER.values() for name in group.split()}
    twin = {name for name in names if name.endswith("_") and name[:-1] in names}
    imported = {name for name in names if inspect.isclass(getattr(kind, name)) or name.isupper() and name != "T"}
    return [name for name in names if name not in left_out | twin | imported]


def public(path, module):
    """Public names of a module; of torch.nn its classes, of torch.nn.utils those that clip."""
    if path == "torch.nn":
        return [name for name in dir(module) if inspect.isclass(getattr(module, name)) and not name.startswith("_")]
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
    lines |= {f"torch.Tensor.{name}" for name in operations(torch.Tensor)}
    lines |= {f"torch.nn.functional.{name}" for name in operations(torch.nn.functional)}
    lines |= {f"torch.{name}" for name in FUNCTIONS.split()}
    # Those that are listed themselves.
    lines -= MODULES.keys() | {"torch.nn.utils.clip_grad"}
    version = torch.__version__.split("+")[0]
    text = "\n".join([f"# PyTorch {version}", *sorted(lines)])
    pathlib.Path(sys.argv[1]).write_text(text + "\n")
    print(f"{sys.argv[1]}: {len(lines)} names of PyTorch {version}")


if __name__ == "__main__":
    main()
