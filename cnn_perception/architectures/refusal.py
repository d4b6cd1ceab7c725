"""Why a network refused an image, in words for whoever chose the image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .errors import shape_text

__all__ = ['refusal']


def refusal(module: nn.Module, inputs: Sequence[torch.Tensor], image: tuple[int, ...],
            error: Exception) -> str:
    """
    Say why a layer took no such inputs: in words of its channels where these do not agree.

    image is the (C, H, W) that the network was given; other reasons are those of the error.
    """
    if not isinstance(module, nn.Conv2d) or not inputs or inputs[0].dim() != 4:
        return str(error)
    wanted, got = module.in_channels, int(inputs[0].shape[1])
    if wanted == got:
        return str(error)
    said = f'it takes {wanted} channel{"" if wanted == 1 else "s"}, got {got}'
    if tuple(inputs[0].shape[1:]) != image:
        return said
    if image[-1] in (1, 3) and image[0] not in (1, 3):
        return f'{said}; channels come first, as in {shape_text((wanted, *image[:2]))}'
    return f'{said}; give an input of {shape_text((wanted, *image[1:]))}'
