"""
Derivatives of activations that give each value from the one in its place.

In closed form, because setting autograd up takes longer than all of them, and so that they can be
part of a network that another engine runs.
"""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from .dense_products import native, tensor_of, Values

__all__ = ['DERIVATIVES', 'derivative', 'is_known']


def batch_norm(part: Any, given: torch.Tensor) -> torch.Tensor:
    """Batch normalisation in evaluation mode, with an activation in the same module if any."""
    scale = torch.rsqrt(part.running_var + part.eps)
    if part.weight is not None:
        scale = scale * part.weight
    if not hasattr(part, 'act') or isinstance(part.act, nn.Identity):
        return scale.expand_as(given)
    shifted = (given - part.running_mean) * scale
    return scale * derivative(part.act, shifted if part.bias is None else shifted + part.bias)


def gelu(part: Any, given: torch.Tensor) -> torch.Tensor:
    """Hendrycks and Gimpel 2016 (arXiv:1606.08415), exact or with the hyperbolic tangent."""
    if getattr(part, 'approximate', 'none') == 'tanh':
        tanh = torch.tanh(math.sqrt(2 / math.pi) * (given + 0.044715 * given ** 3))
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * given ** 2)
        return 0.5 * (1 + tanh) + 0.5 * given * (1 - tanh ** 2) * slope
    density = torch.exp(-0.5 * given ** 2) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + torch.erf(given / math.sqrt(2))) + given * density


def silu(part: Any, given: torch.Tensor) -> torch.Tensor:
    """Return s + x s (1 - s) with the logistic function s of x."""
    share = torch.sigmoid(given)
    return share * (1 + given * (1 - share))


# Of float32 on the CPU these are computed by NumPy, which is called faster than torch.
FOR_ARRAYS: dict[str, Callable[[Any], Any]] = {
    'Hardswish': lambda given: (given >= 3) + (abs(given) < 3) * (given.clip(-3, 3) / 3 + 0.5),
    'Identity': lambda given: given == given,
    'ReLU': lambda given: ~(given <= 0),
    'ReLU6': lambda given: (given > 0) & (given < 6)}
SOURCES = ('torch.nn.', 'timm.', 'cnn_perception.architectures.')
# By name, because timm, which too has the last two in one module, may not be installed.
DERIVATIVES: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    **dict.fromkeys(FOR_ARRAYS, lambda part, given: FOR_ARRAYS[type(part).__name__](given)),
    **dict.fromkeys(('BatchNorm1d', 'BatchNorm2d', 'BatchNormAct2d', 'BatchNormReLU6'),
                    batch_norm),
    'ELU': lambda part, given: torch.where(
        given > 0, torch.ones_like(given), part.alpha * torch.exp(given)),
    'GELU': gelu,
    'Hardsigmoid': lambda part, given: (abs(given) < 3) * torch.full_like(given, 1 / 6),
    'LeakyReLU': lambda part, given: torch.where(
        given > 0, torch.ones_like(given), torch.full_like(given, part.negative_slope)),
    'Sigmoid': lambda part, given: torch.sigmoid(given) * (1 - torch.sigmoid(given)),
    'SiLU': silu,
    'Tanh': lambda part, given: 1 - torch.tanh(given) ** 2}


def is_known(part: nn.Module) -> bool:
    """Tell whether `derivative` can be asked for an activation."""
    # Somebody's own class of the same name may compute something else.
    if type(part).__name__ not in DERIVATIVES or not type(part).__module__.startswith(SOURCES):
        return False
    further = getattr(part, 'act', None)
    return further is None or is_known(further)


def derivative(part: nn.Module, given: Values) -> Any:
    """
    Return the derivative of an activation at the `native` values (N, H) that it was given.

    What is returned is `native` too; it may be boolean.
    """
    kind = type(part).__name__
    if isinstance(given, np.ndarray):
        if kind in FOR_ARRAYS:
            return FOR_ARRAYS[kind](given)
        with torch.inference_mode():
            return native(DERIVATIVES[kind](part, tensor_of(given)))
    return DERIVATIVES[kind](part, given)
