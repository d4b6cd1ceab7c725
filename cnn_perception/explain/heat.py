"""From maps and their weights to heat in [0, 1], equation 2 of Grad-CAM (arXiv:1610.02391)."""

from __future__ import annotations

import numpy as np
import torch

from .dense_products import Values

__all__ = ['as_array', 'scaled', 'weighted']

LARGEST = np.finfo(np.float32).max


def weighted(maps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weigh maps (N, C, h, w) by (N, C) and add up: (N, h, w) float32 in [0, 1]."""
    # Not a matrix product, for which NumPy's library would wake threads of its own.
    return scaled(np.einsum('nchw,nc->nhw', maps, weights))


def scaled(heat: np.ndarray) -> np.ndarray:
    """Cut off what is negative in (N, h, w) and divide by what is highest: [0, 1]."""
    # What is no number counts as 0, what is infinite as the largest.
    heat = np.fmin(np.fmax(heat, 0.0), LARGEST)
    highest = heat.max(axis=(1, 2), keepdims=True)
    return heat / np.where(highest > 0.0, highest, np.float32(1.0))


def as_array(values: Values) -> np.ndarray:
    """Return an activation as float32 in the computer's memory."""
    if isinstance(values, torch.Tensor):
        values = values.detach().float().cpu().numpy()
    return values.astype(np.float32, copy=False)
