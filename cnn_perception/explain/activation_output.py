"""
A class activation map as one more output of the network itself.

Behind fully-connected layers a map needs their weights once more. Whatever runs the network reads
them faster than anything that comes after it, and then gives one map instead of all of a layer's.
"""

from __future__ import annotations

from collections.abc import Mapping

from cnn_perception.backends.outputs import Output
import torch
from torch import nn

from .dense_head import DenseHead
from .dense_products import SMALL, tensor_of
from .derivatives import derivative

__all__ = ['ActivationOutput', 'is_worthwhile']


class ActivationOutput(Output):
    """
    Adds up the maps of a layer, weighted by the gradient of a class's logit, Grad-CAM without cut.

    layer: the one with the maps; head, places: what follows its pooling, see `DenseHead.gradient`;
    rows: (K, G), the last layer's weights. The class is the best one of each picture. It computes
    in float32 whatever the network does. The factor 1 / (h w) of the paper is left out, as maps
    are scaled to 1 anyway.
    """

    def __init__(self, layer: str, head: DenseHead, rows: torch.Tensor, places: int) -> None:
        """Keep the weights, which are shared with the network."""
        super().__init__()
        self.taps = (layer, *head.taps)
        self._names = [step.name for step in head.steps]
        self.rows: torch.Tensor
        self.register_buffer('rows', rows)
        self.parts = nn.ModuleList(step.part if step.part is not None else Weight(tensor_of(
            head.weight(number, places if number == 0 else 1)))
            for number, step in enumerate(head.steps))

    def forward(self, logits: torch.Tensor, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return (N, h, w) for (N, K) logits and the activations of `taps`."""
        # Of the scores, as whoever names the class does: logits can differ where those do not.
        behind = self.rows[logits.float().softmax(1).argmax(1)]  # (N, G)
        for part, name in zip(reversed(self.parts), reversed(self._names)):
            if isinstance(part, Weight):
                behind = behind @ part.weight  # (N, F)
            else:
                behind = behind * derivative(part, values[name].float().flatten(1))  # (N, H)
        return (values[self.taps[0]].float() * behind[:, :, None, None]).sum(1)


class Weight(nn.Module):
    """Weights (H, F) that nothing else is done with."""

    def __init__(self, weight: torch.Tensor) -> None:
        """Keep them, without a copy."""
        super().__init__()
        self.weight: torch.Tensor
        self.register_buffer('weight', weight)


def is_worthwhile(head: DenseHead, places: int) -> bool:
    """
    Tell whether the best class's map is better an output of the network.

    Of large layers only the rows of active neurons are read outside it. What does more than pool
    each map, 0 places, needs a gradient.
    """
    weights = [step.weight.numel() for step in head.steps if step.weight is not None]
    return places > 0 and max(weights, default=0) <= SMALL
