"""
The same resampling as weighted sums, for devices whose own kernels round differently.

On a CPU torch resizes uint8 as Pillow does: along the rows first, then down the columns, with
weights of 16 bits, and rounded to whole levels after each. CUDA's kernels resize floats in one
pass. Rounded once, at the end, 16 % of the values of a photograph differ, by up to 5 levels, and a
probability of EfficientNet-Lite0 by 0.02. Sums of the same whole numbers give the same levels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional

__all__ = ['SumResampling', 'Weights', 'whole_weights']

# As torch chooses them: weights fill 16 bits with their sign, and a sum fits into 32.
WEIGHT_BITS, MOST_BITS = 15, 22


@dataclass(frozen=True)
class Weights:
    """
    What each output pixel along one axis is made of.

    matrix: (outputs, inputs) float32, whole numbers divided by a power of two, and so exact.
    beyond: whether levels can come out that are none, as weights of both signs give.
    """

    matrix: torch.Tensor
    beyond: bool


class Sums:
    """
    Weighted sums along the first axis: (inputs, F) float32 levels -> (outputs, F) float32 levels.

    inputs: the slice of the axis that is read at all. An output reads a few neighbours: a matrix
    product, which reads all, takes several times as long on a GPU.
    """

    def __init__(self, weights: Weights, begin: int, length: int, device: torch.device) -> None:
        """Take the outputs from `begin` on."""
        matrix = weights.matrix[begin:begin + length]
        used = matrix.any(dim=0).nonzero()
        self.inputs = slice(int(used[0]), int(used[-1]) + 1)
        matrix = matrix[:, self.inputs]
        first = (matrix != 0).int().argmax(dim=1)
        last = matrix.shape[1] - 1 - (matrix != 0).int().flip(1).argmax(dim=1)
        neighbours = int((last - first).max()) + 1
        first = first.clamp(max=matrix.shape[1] - neighbours)
        indices = first[:, None] + torch.arange(neighbours)  # (outputs, neighbours)
        self._weights = matrix.gather(1, indices).flatten().to(device)
        self._indices = indices.flatten().to(device)
        self._offsets = (torch.arange(len(matrix)) * neighbours).to(device)
        self._beyond = weights.beyond

    def __call__(self, levels: torch.Tensor) -> torch.Tensor:
        """Add up; what is left to do is `rounded`."""
        return torch.nn.functional.embedding_bag(
            self._indices, levels, self._offsets, mode='sum', per_sample_weights=self._weights)

    def rounded(self, sums: torch.Tensor) -> torch.Tensor:
        """Turn sums, to which a half was added, into whole numbers in [0, 255], in place."""
        levels = sums.floor_()
        return levels.clamp_(0, 255) if self._beyond else levels


class SumResampling:
    """
    Resizes pictures of one size and keeps a part of the result; what lies outside is not computed.

    size, resized: (height, width) before and after. box: (top, left, height, width) of the part.
    interpolation: `bilinear` or `bicubic`, antialiased. window: (rows, columns), the slices of a
    picture that the part depends on. Takes those, (N, rows, columns, 3) uint8 on `device`, and
    returns (N, 3, height, width) float32, whole numbers in [0, 255], channels last.
    """

    def __init__(self, size: tuple[int, int], resized: tuple[int, int],
                 box: tuple[int, int, int, int], interpolation: str, device: torch.device) -> None:
        """Compute the weights, on the CPU."""
        top, left, height, width = box
        self._down = Sums(whole_weights(size[0], resized[0], interpolation), top, height, device)
        self._across = Sums(whole_weights(size[1], resized[1], interpolation), left, width, device)
        self.window = self._down.inputs, self._across.inputs

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """Resize (N, rows, columns, 3) uint8."""
        count, rows, columns, _ = pictures.shape
        levels = pictures.permute(2, 0, 1, 3).to(
            torch.float32, memory_format=torch.contiguous_format)  # (columns, N, rows, 3)
        sums = self._across(levels.view(columns, -1))  # (w, N * rows * 3)
        turned = sums.view(-1, count, rows, 3).permute(2, 1, 0, 3)  # (rows, N, w, 3)
        levels = torch.empty(turned.shape, device=turned.device)
        levels = self._across.rounded(torch.add(turned, 0.5, out=levels))
        sums = self._down(levels.view(rows, -1))  # (h, N * w * 3)
        levels = self._down.rounded(sums.add_(0.5))
        return levels.view(len(sums), count, -1, 3).permute(1, 3, 0, 2)  # (N, 3, h, w)


def whole_weights(length: int, resized: int, interpolation: str) -> Weights:
    """Return the weights (resized, length) of one axis, rounded as torch's uint8 kernel does."""
    if length == resized:
        return Weights(torch.eye(length), False)
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
    return Weights((whole / one).float(), bool((whole < 0).any()))
