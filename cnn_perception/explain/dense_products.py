"""
Products with the weights of fully-connected layers, each read once and on this thread alone.

A value is `native`: an array for float32 on the CPU, for which NumPy is called faster than torch,
else a tensor.
"""

from __future__ import annotations

from cnn_perception.resample import as_tensor
import numpy as np
import torch
from torch import nn

__all__ = ['backwards', 'compact', 'native', 'SMALL', 'tensor_of', 'Values']

Values = np.ndarray | torch.Tensor

# More weights than this are read by picking rows out, and kept in half precision for it, because
# reading them is all that takes time: AlexNet's map then costs a few per cent of a forward pass
# instead of 14, and no place of it moves by more than 0.002.
SMALL = 2 ** 21
# With gradients that add up to this, weights up to that cannot give what half precision lacks.
TOTAL, LARGEST = 64.0, 1000.0
# Gradients that add up to less are none; dividing by them would not give a number.
NOTHING = np.float32(1e-30)


def native(values: torch.Tensor) -> Values:
    """Return what computes fastest: an array for float32 on the CPU, else the tensor."""
    here = values.device.type == 'cpu' and values.dtype == torch.float32
    return values.detach().numpy() if here else values.detach()


def tensor_of(values: Values) -> torch.Tensor:
    """Return `native` values as a tensor, which nobody may write to."""
    return as_tensor(values) if isinstance(values, np.ndarray) else values


def compact(weight: Values) -> Values:
    """Return `native` weights as `backwards` reads them fastest: large arrays as float16."""
    if isinstance(weight, torch.Tensor) or weight.size <= SMALL:
        return weight
    fits = abs(weight).max() <= LARGEST
    return as_tensor(weight).half() if fits else weight


def backwards(weight: Values, gradient: Values) -> Values:
    """Multiply a `native` gradient (N, G) by `compact` weights (G, F)."""
    if isinstance(gradient, torch.Tensor):
        return gradient @ tensor_of(weight)
    # On this thread alone, all of it: waking others would disturb the next forward pass.
    if isinstance(weight, torch.Tensor):
        return picked(weight, gradient)
    return np.einsum('ng,gf->nf', gradient, weight)


def picked(weight: torch.Tensor, gradient: np.ndarray) -> np.ndarray:
    """Multiply (N, G) float32 by (G, F) float16, reading only the rows of (G, F) that count."""
    totals = np.maximum(abs(gradient).sum(axis=1, keepdims=True), NOTHING)
    pictures, active = np.nonzero(gradient)
    begins = np.searchsorted(pictures, np.arange(len(gradient)))
    shares = (gradient * (TOTAL / totals))[pictures, active]
    # Rows are read where they lie; picking them out would copy them.
    sums = nn.functional.embedding_bag(
        as_tensor(active), weight, as_tensor(begins), mode='sum',
        per_sample_weights=as_tensor(shares).to(weight.dtype))
    return sums.float().numpy() * (totals / TOTAL)
