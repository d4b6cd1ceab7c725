"""
The same resampling as two matrix products, for devices whose own kernels round differently.

On a CPU torch resizes uint8 as Pillow does: rows first, then columns, with weights of 16 bits, and
rounded to whole levels after each. CUDA's kernels resize floats in one pass. Rounded once, at the
end, 16 % of the values of a photograph differ, by up to 5 levels, and a probability of
EfficientNet-Lite0 by 0.02. Products of the same whole numbers give the same levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional

__all__ = ['ProductResampling', 'whole_weights']

# As torch chooses them: weights fill 16 bits with their sign, and a sum fits into 32.
WEIGHT_BITS, MOST_BITS = 15, 22


@dataclass(frozen=True)
class Pass:
    """
    weights: (outputs, inputs) float32, whole numbers divided by a power of two, and so exact.

    beyond: whether levels can come out that are none, as weights of both signs give.
    """

    weights: torch.Tensor
    beyond: bool

    def rounded(self, sums: torch.Tensor) -> torch.Tensor:
        """Turn sums of weights times levels into levels, float32 whole numbers in [0, 255]."""
        levels = sums.add_(0.5).floor_()
        return levels.clamp_(0, 255) if self.beyond else levels


class ProductResampling:
    """
    Resizes pictures of one size and keeps a part of the result; what lies outside is not computed.

    size, resized: (height, width) before and after. box: (top, left, height, width) of the part.
    interpolation: `bilinear` or `bicubic`, antialiased. Takes (N, 3, H, W) uint8 on `device` and
    returns (N, 3, h, w) float32, whole numbers in [0, 255].
    """

    def __init__(self, size: tuple[int, int], resized: tuple[int, int],
                 box: tuple[int, int, int, int], interpolation: str, device: torch.device) -> None:
        """Compute the weights, on the CPU."""
        top, left, height, width = box
        down = whole_weights(size[0], resized[0], interpolation)
        across = whole_weights(size[1], resized[1], interpolation)
        rows = down.weights[top:top + height]
        used = rows.any(dim=0).nonzero()
        self._rows = slice(int(used[0]), int(used[-1]) + 1)
        self._down = Pass(rows[:, self._rows].contiguous().to(device), down.beyond)
        self._across = Pass(across.weights[left:left + width].t().contiguous().to(device),
                            across.beyond)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Resize (N, 3, H, W) uint8."""
        levels = pictures[:, :, self._rows].to(
            torch.float32, memory_format=torch.contiguous_format)
        levels = self._across.rounded(levels @ self._across.weights)  # (N, 3, rows, w)
        return self._down.rounded(self._down.weights @ levels)  # (N, 3, h, w)


def whole_weights(length: int, resized: int, interpolation: str) -> Pass:
    """Return the weights (resized, length) of one axis, rounded as torch's uint8 kernel does."""
    if length == resized:
        return Pass(torch.eye(length), False)
    # What becomes of each single input pixel, in the double precision that the kernel uses.
    single = torch.eye(length, dtype=torch.float64)[None, None]  # (1, 1, length, length)
    weights = torch.nn.functional.interpolate(
        single, size=(length, resized), mode=interpolation, antialias=True,
        align_corners=False)[0, 0].t()
    largest, bits = float(weights.max()), 0
    while bits < MOST_BITS and int(0.5 + largest * 2 ** (bits + 1)) < 2 ** WEIGHT_BITS:
        bits += 1
    one = float(2 ** bits)
    whole = torch.trunc(weights * one + torch.where(weights < 0, -0.5, 0.5))
    return Pass((whole / one).float(), bool((whole < 0).any()))
