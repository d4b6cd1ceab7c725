"""How near an engine's answers come to those of the network itself, in torch and float32."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cnn_perception.backends.base import Backend
from cnn_perception.backends.half import whole_precision
from cnn_perception.preprocessor import Preprocessor
from cnn_perception.processor import one_torch_thread
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import nn

__all__ = ['Agreement', 'agreement']

# Scores that differ by less than this part of their size are as exact as that lets them be.
LEAST_RANGE = 0.01
SMALLEST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Agreement:
    """
    How an engine's answers compare with the reference in float32.

    same: pictures with the same best class, of `pictures`. difference: the largest of any
    probability, in [0, 1]. spread: the largest of any score before the softmax, in ranges of the
    scores. Both are NaN where an answer is not a number.
    """

    same: int
    pictures: int
    difference: float
    spread: float

    def __str__(self) -> str:
        """Say it in words."""
        return (f'same best class as torch float32 on {self.same} of {self.pictures} pictures, '
                f'probabilities within {self.difference:.2g}')


def agreement(backend: Backend, module: nn.Module, frames: Sequence[np.ndarray]) -> Agreement:
    """Compare an engine with a module in float32 on (H, W, 3) uint8 RGB pictures, one by one."""
    device = next((values.device for values in module.parameters()), torch.device('cpu'))
    prepare = Preprocessor(backend.preprocessor.preprocessing, device)
    same, differences, spreads = 0, [], []
    for frame in frames:
        with (TRACING.passing(), one_torch_thread(), whole_precision(),
              torch.inference_mode()):
            scores = module(prepare([frame]))[0].float().cpu()
        logits = torch.from_numpy(backend.forward_pictures([frame])[0])[0]
        expected, answer = scores.softmax(dim=0), logits.softmax(dim=0)
        same += int(answer.argmax() == expected.argmax())
        differences.append(float((answer - expected).abs().max()))
        spreads.append(spread_between(scores, logits))
    return Agreement(same, len(frames), float(np.max(differences)), float(np.max(spreads)))


def spread_between(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return the largest difference of two (K,) float32 scores, in ranges of the expected ones."""
    # Of classes that a network masks both are minus infinity.
    difference = torch.where(found == expected, 0.0, (found - expected).abs()).max()
    finite = expected[expected.isfinite()]
    if not len(finite):
        return float(difference)
    if len(finite) == 1:  # has no range
        return float(difference / finite.abs().clamp(min=1.0))
    least = LEAST_RANGE * finite.abs().max()
    size = torch.maximum(finite.max() - finite.min(), least)
    return float(difference / size.clamp(min=SMALLEST))
