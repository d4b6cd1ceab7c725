"""What is computed from a network's activations as a part of it, by whatever runs the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import copy

import torch
from torch import nn

__all__ = ['needed', 'Output', 'with_outputs']


class Output(nn.Module):
    """
    A module that computes one more output of a network.

    taps: layers whose activations it needs, in whatever type the network computes. Its own weights
    are float32 on the CPU, and may be shared with the network.
    """

    taps: tuple[str, ...] = ()

    def forward(self, logits: torch.Tensor, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Compute (N, ...) from logits (N, K) and the activations of `taps`."""
        raise NotImplementedError


class WithOutputs(nn.Module):
    """A tapped network and what is computed from its activations."""

    def __init__(self, tapped: nn.Module, taps: Sequence[str], outputs: Mapping[str, Output]
                 ) -> None:
        """Keep what is asked for, in that order."""
        super().__init__()
        self._taps, self._names = tuple(taps), tuple(outputs)
        self.tapped = tapped
        self.outputs = nn.ModuleList(outputs.values())

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run (N, C, h, w)."""
        logits, values = self.tapped(batch)
        further = {name: output(logits, values)
                   for name, output in zip(self._names, self.outputs)}
        return logits, {name: further[name] if name in further else values[name]
                        for name in self._taps}


def needed(taps: Sequence[str], outputs: Mapping[str, Output]) -> tuple[str, ...]:
    """Return the layers among `taps` and those that the outputs among them need."""
    layers = [name for name in taps if name not in outputs]
    layers += [layer for name in taps if name in outputs for layer in outputs[name].taps]
    return tuple(dict.fromkeys(layers))


def with_outputs(tapped: nn.Module, taps: Sequence[str], outputs: Mapping[str, Output]
                 ) -> WithOutputs:
    """
    Return a module (N, C, h, w) -> (logits, {tap: values}), each tap a layer or an output.

    tapped: has the layers that are `needed`; the outputs are put on its device.
    """
    like = next((parameter for parameter in tapped.parameters()
                 if parameter.is_floating_point()), torch.empty(0))
    chosen = {name: outputs[name] for name in taps if name in outputs}
    if like.device.type != 'cpu':
        chosen = {name: copy.deepcopy(output).to(like.device)
                  for name, output in chosen.items()}
    return WithOutputs(tapped, taps, chosen).eval()
