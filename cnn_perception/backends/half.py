"""
Weights for half precision.

bfloat16 keeps 8 bits of a weight. Rounded one by one, the weights of a small kernel (a depthwise
one above all) change their sum, and with it the brightness of a whole map, which adds up over the
layers. Rounded so that each kernel keeps its sum, the probabilities of EfficientNet-Lite0 on the
photographs differ from float32's by 0.015 instead of 0.023 in OpenVINO, by 0.014 instead of 0.034
in torch.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import copy
from typing import Any

import torch
from torch import nn

__all__ = ['half_module', 'round_constants', 'round_kernels', 'whole_precision']


@contextlib.contextmanager
def whole_precision(precision: str, *, choose: bool = False) -> Iterator[None]:
    """
    Let a GPU compute float32 in float32: in TF32, torch's default, convolutions keep 10 bits.

    Rounded so, the probabilities of EfficientNet-Lite0 differ by 0.0024. Matrix products are in
    TF32 where an environment variable of NVIDIA's containers says so. choose: try cuDNN's
    algorithms for every new shape and keep the fastest. Without a GPU it changes nothing.
    """
    if not torch.backends.cudnn.is_available():
        yield
        return
    products = torch.get_float32_matmul_precision()
    coarse = precision == 'float32' and products != 'highest'
    if coarse:
        torch.set_float32_matmul_precision('highest')
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=choose, deterministic=False,
                                        allow_tf32=precision != 'float32'):
            yield
    finally:
        if coarse:
            torch.set_float32_matmul_precision(products)


def round_kernels(weights: torch.Tensor) -> torch.Tensor:
    """
    Round (..., kh, kw) float32 to values of bfloat16 so that the sum of each kernel stays.

    Returns float32 of the same shape. 1 x 1 kernels are rounded to nearest.
    """
    rows = weights.reshape(-1, weights.shape[-2] * weights.shape[-1])
    if rows.shape[1] == 1:
        return weights.bfloat16().float()
    # Largest first: the error that is left over is that of the smallest weight.
    order = rows.abs().argsort(dim=1, descending=True)
    ordered = rows.gather(1, order)
    error = torch.zeros(len(rows), device=rows.device)
    for index in range(rows.shape[1]):
        wanted = ordered[:, index] + error
        ordered[:, index] = wanted.bfloat16().float()
        error = wanted - ordered[:, index]
    return torch.empty_like(rows).scatter_(1, order, ordered).reshape(weights.shape)


def half_module(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """
    Return a copy of a module that takes and gives float16 or bfloat16.

    The statistics of batch normalisation stay float32, as its kernels want them: their variances
    can be beyond what float16 holds.
    """
    own = copy.deepcopy(module)
    for part in own.modules():
        if dtype == torch.bfloat16 and isinstance(part, nn.Conv2d):
            part.weight.data = round_kernels(part.weight.data.contiguous().float())
    own = own.to(dtype)
    for part, source in zip(own.modules(), module.modules()):
        if isinstance(part, nn.BatchNorm2d):
            for name, values in [*source.named_parameters(recurse=False),
                                 *source.named_buffers(recurse=False)]:
                getattr(part, name).data = values.detach().clone()
    return own


def round_constants(model: Any) -> None:
    """Round the kernels of an `openvino.Model`, with the normalisation after them folded in."""
    import numpy as np
    from openvino import opset13
    from openvino._offline_transformations import apply_moc_transformations
    apply_moc_transformations(model, cf=False)
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ('Convolution', 'GroupConvolution'):
            continue
        weights = node.input(1).get_source_output().get_node()
        if weights.get_type_name() == 'Constant':
            rounded = round_kernels(torch.from_numpy(np.array(weights.data)))
            node.input(1).replace_source_output(opset13.constant(rounded.numpy()).output(0))
