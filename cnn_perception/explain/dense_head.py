"""
The gradient of fully-connected layers from what the forward pass gave, without running them again.

AlexNet and VGG end in three fully-connected layers that hold most of the network's weights, and
reading those is what they cost. With the values before each activation tapped, the chain rule
needs each weight matrix once, and of a large one only the rows of neurons that were active
(Rumelhart, Hinton and Williams 1986; a ReLU passes no gradient where it gave 0).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cnn_perception.resample import as_tensor
import numpy as np
import torch
from torch import fx, nn

from .network_layers import NetworkLayers

__all__ = ['DenseHead', 'dense_head', 'native', 'tensor_of', 'Values']

Values = np.ndarray | torch.Tensor

ACTIVATIONS = (nn.ELU, nn.GELU, nn.Hardsigmoid, nn.Hardswish, nn.LeakyReLU, nn.ReLU, nn.ReLU6,
               nn.Sigmoid, nn.SiLU, nn.Tanh)
# More weights than this are read by picking rows out, and kept in half precision for it, because
# reading them is all that takes time: AlexNet's map then costs a few per cent of a forward pass
# instead of 14, and no place of it moves by more than 0.002.
SMALL = 2 ** 21
# With gradients that add up to this, weights up to that cannot give what half precision lacks.
TOTAL, LARGEST = 64.0, 1000.0
# Gradients that add up to less are none; dividing by them would not give a number.
NOTHING = np.float32(1e-30)
PASSED_OVER = (nn.Dropout, nn.Identity)
# Setting autograd up takes longer than these, which are for arrays as for tensors.
DERIVATIVES: dict[type, Callable[[Any], Any]] = {
    nn.Hardswish: lambda given: (given >= 3) + (abs(given) < 3) * (given.clip(-3, 3) / 3 + 0.5),
    nn.ReLU: lambda given: ~(given <= 0)}


@dataclass(frozen=True)
class DenseHead:
    """
    Fully-connected layers between the node `entry` and the last one, which gives the logits.

    steps: linear layers and activations in the order of the forward pass; with an activation
    comes the name of the layer whose values it was given.
    """

    entry: fx.Node
    steps: tuple[tuple[nn.Module, str], ...]
    _weights: dict[tuple[int, int], Values] = field(
        default_factory=dict, compare=False, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose values `gradient` needs."""
        return tuple(name for _, name in self.steps if name)

    def forward(self, entering: torch.Tensor) -> dict[str, Values]:
        """Compute `native` values of `taps`, where none were tapped, from the entry's (N, F)."""
        values: dict[str, Values] = {}
        with torch.no_grad():
            for part, name in self.steps:
                if name:
                    values[name] = native(entering)
                entering = part(entering.clone())
        return values

    def gradient(self, behind: Values, values: Mapping[str, Values], places: int = 1) -> Values:
        """
        Return the gradient at the entry, (N, F / places), for that behind the last step, (N, G).

        behind, values: `native` ones, (N, H) for each of `taps`, and so is what is returned.
        places: how many features that lie beside each other are added up.
        """
        for index, (part, name) in reversed([*enumerate(self.steps)]):
            if isinstance(part, nn.Linear):
                behind = backwards(self._weight(index, places if index == 0 else 1), behind)
            elif type(part) in DERIVATIVES:
                behind = behind * DERIVATIVES[type(part)](values[name])
            else:
                with torch.inference_mode(False), torch.enable_grad():
                    given = tensor_of(values[name]).clone().requires_grad_(True)
                    gradient, = torch.autograd.grad(
                        part(given.clone()), given, tensor_of(behind).clone())
                behind = native(gradient)
        return behind

    def _weight(self, index: int, places: int) -> Values:
        """Return a layer's `native` weights (H, F / places), neighbouring features added up."""
        if (index, places) not in self._weights:
            weight = self.steps[index][0].get_parameter('weight').detach()
            if places > 1:
                # In the weights' own precision, but added up in one that loses nothing.
                weight = weight.unflatten(1, (-1, places)).sum(
                    2, dtype=torch.float32).to(weight.dtype)
            self._weights[index, places] = compact(native(weight))
        return self._weights[index, places]


def native(values: torch.Tensor) -> Values:
    """Return what computes fastest: an array for float32 on the CPU, else the tensor."""
    here = values.device.type == 'cpu' and values.dtype == torch.float32
    return values.detach().numpy() if here else values.detach()


def tensor_of(values: Values) -> torch.Tensor:
    """Return `native` values as a tensor, which nobody may write to."""
    return as_tensor(values) if isinstance(values, np.ndarray) else values


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


def compact(weight: Values) -> Values:
    """Return `native` weights as `backwards` reads them fastest: large arrays as float16."""
    if isinstance(weight, torch.Tensor) or weight.size <= SMALL:
        return weight
    fits = abs(weight).max() <= LARGEST
    return as_tensor(weight).half() if fits else weight


def backwards(weight: Values, gradient: Values) -> Values:
    """Multiply a `native` gradient (N, G) by `compact` weights (G, F)."""
    if isinstance(gradient, torch.Tensor):
        return gradient @ tensor_of(weight)
    # On this thread alone, all of it: waking others would disturb the next forward pass.
    if isinstance(weight, torch.Tensor):
        return picked(weight, gradient)
    return np.einsum('ng,gf->nf', gradient, weight)


def picked(weight: torch.Tensor, gradient: np.ndarray) -> np.ndarray:
    """Multiply (N, G) float32 by (G, F) float16, reading only the rows of (G, F) that count."""
    totals = np.maximum(abs(gradient).sum(axis=1, keepdims=True), NOTHING)
    pictures, active = np.nonzero(gradient)
    begins = np.searchsorted(pictures, np.arange(len(gradient)))
    shares = (gradient * (TOTAL / totals))[pictures, active]
    # Rows are read where they lie; picking them out would copy them.
    sums = nn.functional.embedding_bag(
        as_tensor(active), weight, as_tensor(begins), mode='sum',
        per_sample_weights=as_tensor(shares).to(weight.dtype))
    return sums.float().numpy() * (totals / TOTAL)
