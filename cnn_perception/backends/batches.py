"""Batches that are cut into sizes an engine has compiled or recorded, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch

__all__ = ['Batch', 'by_size', 'Forward', 'joined', 'LARGEST', 'parts_of', 'room_for',
           'roomy_parts', 'Tapped']

# What is compiled or recorded for a number of pictures is for a power of two, at most this.
LARGEST = 16
# (N, K) logits and, for each tap, (N, C, h, w), (N, L, F) or (N, F): float32.
Forward = tuple[np.ndarray, dict[str, np.ndarray]]
# A module (N, C, h, w) -> (logits, {tap: activation}), or what a compiler made of one.
Tapped = Callable[[torch.Tensor], tuple[torch.Tensor, dict[str, torch.Tensor]]]
Batch = TypeVar('Batch', np.ndarray, torch.Tensor, list[int], Sequence[np.ndarray])


def parts_of(batch: Batch, largest: int = LARGEST) -> list[Batch]:
    """Cut a batch (N, ...) into parts of 1, 2, 4 ... pictures, at most `largest`."""
    parts, begin = [], 0
    while begin < len(batch):
        size = min(largest, 1 << ((len(batch) - begin).bit_length() - 1))
        parts.append(batch[begin:begin + size])
        begin += size
    return parts


def room_for(count: int) -> int:
    """Return the power of two that holds so many pictures."""
    return 1 << (count - 1).bit_length()


def roomy_parts(batch: Batch, largest: int = LARGEST) -> list[Batch]:
    """
    Cut a batch (N, ...) into parts that each fill at least two thirds of a power of two.

    A GPU takes hardly longer for four pictures than for three, and twice as long for two parts.
    """
    parts, begin = [], 0
    while left := min(len(batch) - begin, largest):
        room = room_for(left)
        count = left if 3 * left >= 2 * room else room // 2
        parts.append(batch[begin:begin + count])
        begin += count
    return parts


def by_size(frames: Sequence[np.ndarray]) -> dict[tuple[int, int], list[int]]:
    """Return the indices of the pictures of each (height, width), in order."""
    places: dict[tuple[int, int], list[int]] = {}
    for index, frame in enumerate(frames):
        places.setdefault((frame.shape[0], frame.shape[1]), []).append(index)
    return places


def joined(parts: Sequence[Forward]) -> Forward:
    """Put the answers for the parts of a batch together again."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([logits for logits, _ in parts]), {
        name: np.concatenate([values[name] for _, values in parts]) for name in parts[0][1]}
