"""
The gradient of fully-connected layers from what the forward pass gave, without running them again.

AlexNet and VGG end in three fully-connected layers that hold most of the network's weights, and
reading those is what they cost. With the values before each activation tapped, the chain rule
needs each weight matrix once, and of it only the rows of neurons that were active (Rumelhart,
Hinton and Williams 1986; a ReLU passes no gradient where it gave 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import fx, nn

from .network_layers import NetworkLayers

__all__ = ['DenseHead', 'dense_head']

ACTIVATIONS = (nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6,
               nn.Sigmoid, nn.SiLU, nn.Tanh)
# Weights that are read faster one after the other than by picking: so few, or so many in use.
SMALL = 2 ** 21
MOST = 0.7
PASSED_OVER = (nn.Dropout, nn.Identity)
# What autograd calls for them: setting it up takes longer than these.
DERIVATIVES: dict[type, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    nn.Hardswish: torch.ops.aten.hardswish_backward.default,
    nn.ReLU: lambda behind, given: torch.ops.aten.threshold_backward.default(behind, given, 0),
    nn.SiLU: torch.ops.aten.silu_backward.default}


@dataclass(frozen=True)
class DenseHead:
    """
    Fully-connected layers between the node `entry` and the last one, which gives the logits.

    steps: linear layers and activations in the order of the forward pass; with an activation
    comes the name of the layer whose values it was given.
    """

    entry: fx.Node
    steps: tuple[tuple[nn.Module, str], ...]
    _sums: dict[int, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose values `gradient` needs."""
        return tuple(name for _, name in self.steps if name)

    def forward(self, entering: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the values of `taps`, where they were not tapped, from the entry's (N, F)."""
        values: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for part, name in self.steps:
                if name:
                    values[name] = entering
                entering = part(entering.clone())
        return values

    def gradient(self, behind: torch.Tensor, values: Mapping[str, torch.Tensor],
                 places: int = 1) -> torch.Tensor:
        """
        Return the gradient at the entry, (N, F / places), for that behind the last step, (N, G).

        values: (N, H) for each of `taps`. places: how many features that lie beside each other
        are added up.
        """
        for index, (part, name) in reversed([*enumerate(self.steps)]):
            if isinstance(part, nn.Linear):
                behind = backwards(part.weight.detach() if index else self.summed(places), behind)
            elif type(part) in DERIVATIVES:
                behind = DERIVATIVES[type(part)](behind, values[name].detach())
            else:
                with torch.inference_mode(False), torch.enable_grad():
                    given = values[name].clone().requires_grad_(True)
                    behind, = torch.autograd.grad(part(given.clone()), given, behind)
        return behind

    def summed(self, places: int) -> torch.Tensor:
        """Return the first layer's weights (H, F / places), neighbouring features added up."""
        weight = self.steps[0][0].get_parameter('weight').detach()
        if places == 1:
            return weight
        if places not in self._sums:
            # In the weights' own precision, but added up in one that loses nothing.
            self._sums[places] = weight.unflatten(1, (-1, places)).sum(
                2, dtype=torch.float32).to(weight.dtype)
        return self._sums[places]


def dense_head(layers: NetworkLayers, end: fx.Node, computed: set[fx.Node]) -> DenseHead | None:
    """
    Find the fully-connected layers that lead to `end`, the input of the last one.

    computed: the nodes of the head. None where there are none, or something else between them.
    """
    steps: list[tuple[nn.Module, str]] = []
    entry, found = end, 0
    node = end
    while node in computed and node.op == 'call_module' and len(node.users) == 1:
        part = layers.graph_module.get_submodule(str(node.target))
        source = node.all_input_nodes[0]
        if type(part) is nn.Linear and len(layers.shape_of(node)) == 1:
            steps.append((part, ''))
            entry, found = source, len(steps)
        elif type(part) in ACTIVATIONS and len(layers.shape_of(source)) == 1:
            steps.append((part, layers.names_of[source]))
        elif type(part) not in PASSED_OVER:
            break
        node = source
    # What comes before the first linear layer belongs to the part before the entry.
    return DenseHead(entry, tuple(reversed(steps[:found]))) if found else None


def backwards(weight: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Multiply (N, G) by (G, F), reading only the rows of (G, F) that count where it pays."""
    if weight.device.type != 'cpu' or weight.dtype != torch.float32:
        return gradient @ weight
    # On this thread alone, all of it: waking others would disturb the next forward pass.
    rows = gradient.detach().numpy()
    if weight.numel() <= SMALL or np.count_nonzero(rows) > MOST * rows.size:
        return torch.from_numpy(np.stack([
            np.einsum('g,gf->f', row, weight.numpy()) for row in rows]))
    pictures, active = np.nonzero(rows)
    begins = np.searchsorted(pictures, np.arange(len(rows)))
    # Rows are read where they lie; picking them out would copy them.
    return nn.functional.embedding_bag(
        torch.from_numpy(active), weight, torch.from_numpy(begins), mode='sum',
        per_sample_weights=torch.from_numpy(rows[pictures, active]))
