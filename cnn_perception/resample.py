"""
The part of a resized picture that a network reads, on a CPU, without computing the rest.

Resizing 640 x 480 to a short side of 256 and cutting out 224 x 224 throws 43 % of the pixels away.
torch's antialiased kernels can be told a scale that is not the ratio of the two sizes, so that
rows above and below the crop and columns right of it are never computed. Columns left of it are:
the kernels begin at the picture's own edge and want whole rows in one piece.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
import warnings

import numpy as np
import torch

__all__ = ['as_tensor', 'KERNELS', 'middle', 'resampled_crop']

# As torch.nn.functional.interpolate calls them, but told the scales themselves.
KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    mode: getattr(torch._C._nn, f'_upsample_{mode}2d_aa') for mode in ('bilinear', 'bicubic')}
# Of an array that is read-only torch warns, once in a process: nobody here writes to any.
with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    torch.from_numpy(np.frombuffer(b'0', np.uint8))
# Source pixels on each side of an output pixel's centre that reach it, in pixels of the output.
SUPPORT = {'bilinear': 1, 'bicubic': 2}


@dataclass(frozen=True)
class Window:
    """
    What of a picture is resampled for a crop.

    rows: source rows; size: (height, width) of what is computed from them; scales: output pixels
    for each source pixel, vertically and horizontally; top, left: where the crop lies in it.
    """

    rows: tuple[int, int]
    size: tuple[int, int]
    scales: tuple[float, float]
    top: int
    left: int


def as_tensor(frame: np.ndarray) -> torch.Tensor:
    """Wrap an array, read-only ones included, without a copy; nobody may write to the tensor."""
    return torch.from_numpy(frame)


def resampled_crop(frame: np.ndarray, resized: tuple[int, int], crop: tuple[int, int],
                   interpolation: str) -> np.ndarray:
    """
    Resize a picture and return the middle of it, as resizing all of it and cropping would.

    frame: (H, W, 3) uint8. resized: (height, width) to resize to, at least `crop` and different
    from (H, W). interpolation: `bilinear` or `bicubic`, antialiased. Returns a view (*crop, 3).
    """
    window = window_of(frame.shape[:2], resized, crop, SUPPORT[interpolation])
    # Views are NumPy's, which are made faster, and the kernels run in the calling thread alone.
    rows = np.ascontiguousarray(frame[window.rows[0]:window.rows[1]])
    # Reshaped, as an axis made by None has no stride: torch would not see that channels come last.
    source = as_tensor(rows.reshape(1, *rows.shape).transpose(0, 3, 1, 2))  # (1, 3, rows, W)
    pictures = KERNELS[interpolation](source, window.size, False, *window.scales)  # (1, 3, h, w)
    return pictures.numpy()[0].transpose(1, 2, 0)[
        window.top:window.top + crop[0], window.left:window.left + crop[1]]


def middle(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """Return (top, left) of a crop, rounded half to even, as torchvision places its crop."""
    return round((size[0] - crop[0]) / 2.0), round((size[1] - crop[1]) / 2.0)


@lru_cache(maxsize=64)
def window_of(size: tuple[int, int], resized: tuple[int, int], crop: tuple[int, int],
              support: int) -> Window:
    """Compute the window for pictures of one size."""
    top, left = middle(resized, crop)
    skipped, rows = rows_of(size[0], resized[0], top, crop[0], support)
    width = left + crop[1] if resized[1] < size[1] else resized[1]
    height = top + crop[0] - skipped if rows != (0, size[0]) else resized[0]
    return Window(rows, (height, width), (resized[0] / size[0], resized[1] / size[1]),
                  top - skipped, left)


def rows_of(size: int, resized: int, top: int, height: int, support: int
            ) -> tuple[int, tuple[int, int]]:
    """
    Find the source rows that output rows `top` to `top + height` depend on.

    Returns how many output rows are skipped before the first one computed, and the source rows.
    Only where both sides have a row boundary at the same place can the picture be cut.
    """
    scale = Fraction(size, resized)
    if scale <= 1:
        return 0, (0, size)
    reach = support * scale + 1
    first = next(row for row in range(top, -1, -1) if (scale * row).denominator == 1
                 and (row == 0 or scale * row <= scale * (top + Fraction(1, 2)) - reach))
    last = min(size, int(scale * (top + height) + reach) + 1)
    return first, (int(scale * first), last)
