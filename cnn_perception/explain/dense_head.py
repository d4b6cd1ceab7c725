"""
The gradient of fully-connected layers from what the forward pass gave, without running them again.

AlexNet and VGG end in three fully-connected layers that hold most of the network's weights, and
reading those is what they cost; MobileNetV3 ends in two, of which the first may be written as a
1 x 1 convolution behind the pooling. With the values before each activation tapped, the chain rule
needs each weight matrix once, and of a large one only the rows of neurons that were active
(Rumelhart, Hinton and Williams 1986; a ReLU passes no gradient where it gave 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cnn_perception.turns import TRACING
import torch
from torch import fx, nn

from .dense_products import backwards, compact, native, Values
from .derivatives import derivative, is_known
from .names import is_single
from .network_layers import NetworkLayers, PASSED_OVER

__all__ = ['dense_head', 'DenseHead', 'linear_of', 'Step']


@dataclass(frozen=True)
class Step:
    """
    A fully-connected layer with `weight` (H, F) or (H, F, 1, 1), or an activation with `part`.

    name: the layer whose values an activation was given. shape: of one of those.
    """

    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    part: nn.Module | None = None
    name: str = ''
    shape: tuple[int, ...] = ()

    def run(self, entering: torch.Tensor) -> torch.Tensor:
        """Turn (N, ...) into what comes next."""
        if self.weight is not None:
            return nn.functional.linear(
                entering.flatten(1), self.weight.flatten(1), self.bias)  # (N, H)
        if self.part is None:
            raise ValueError('a step of fully-connected layers has neither weight nor part')
        # A copy, because it may work in place.
        return self.part(entering.clone().unflatten(1, self.shape) if len(self.shape) > 1
                         else entering.clone()).flatten(1)  # (N, H)


@dataclass(frozen=True)
class DenseHead:
    """
    Fully-connected layers between the node `entry` and the last one, which gives the logits.

    steps: in the order of the forward pass.
    """

    entry: fx.Node
    steps: tuple[Step, ...]
    _weights: dict[tuple[int, int], Values] = field(
        default_factory=dict, compare=False, repr=False)

    @property
    def taps(self) -> tuple[str, ...]:
        """Layers whose values `gradient` needs."""
        return tuple(step.name for step in self.steps if step.name)

    def forward(self, entering: torch.Tensor) -> dict[str, Values]:
        """Compute `native` values of `taps`, where none were tapped, from the entry's (N, ...)."""
        values: dict[str, Values] = {}
        entering = entering.flatten(1)  # (N, F)
        with TRACING.passing(), torch.no_grad():
            for step in self.steps:
                if step.name:
                    values[step.name] = native(entering)
                entering = step.run(entering)
        return values

    def gradient(self, behind: Values, values: Mapping[str, Values], places: int = 1) -> Values:
        """
        Return the gradient at the entry, (N, F / places), for that behind the last step, (N, G).

        behind, values: `native` ones, (N, H) or (N, H, 1, 1) for each of `taps`, and what is
        returned is too. places: how many features that lie beside each other are added up.
        """
        for index, step in reversed([*enumerate(self.steps)]):
            if step.part is None:
                behind = backwards(self.weight(index, places if index == 0 else 1), behind)
            else:
                given = values[step.name].reshape(behind.shape)  # (N, H)
                behind = behind * derivative(step.part, given)
        return behind

    def weight(self, index: int, places: int = 1) -> Values:
        """Return a layer's `native` weights (H, F / places), neighbouring features added up."""
        if (index, places) not in self._weights:
            weight = self.steps[index].weight
            if weight is None:
                raise ValueError(f'step {index} of fully-connected layers is an activation')
            weight = weight.detach().flatten(1)  # (H, F)
            if places > 1:
                # In the weights' own precision, but added up in one that loses nothing.
                weight = weight.unflatten(1, (-1, places)).sum(
                    2, dtype=torch.float32).to(weight.dtype)
            self._weights[index, places] = compact(native(weight))
        return self._weights[index, places]


def dense_head(layers: NetworkLayers, end: fx.Node, computed: set[fx.Node]) -> DenseHead | None:
    """
    Find the fully-connected layers that lead to `end`, the input of the last one.

    computed: the nodes of the head. None where there are none, or something else between them.
    """
    steps: list[Step] = []
    entry, found = end, 0
    node = end
    while node in computed and len(node.users) == 1 and node.all_input_nodes:
        found_linear = linear_of(layers, node)
        source = node.all_input_nodes[0] if found_linear is None else found_linear.source
        kind, shape = layers.kind_of(node), layers.shape_of(source)
        if not is_single(layers.shape_of(node)) or not is_single(shape):
            break
        if found_linear is not None:
            steps.append(Step(found_linear.weight, found_linear.bias))
            entry, found = source, len(steps)
        elif kind not in PASSED_OVER:
            if node.op != 'call_module' or not is_known(
                    part := layers.graph_module.get_submodule(str(node.target))):
                break
            steps.append(Step(part=part, name=layers.names_of[source], shape=shape))
        node = source
    # What comes before the first linear layer belongs to the part before the entry.
    return DenseHead(entry, tuple(reversed(steps[:found]))) if found else None


class Linear(NamedTuple):
    """What a fully-connected layer reads, and its weight (H, F) or (H, F, 1, 1) and bias (H,)."""

    source: fx.Node
    weight: torch.Tensor
    bias: torch.Tensor | None


def linear_of(layers: NetworkLayers, node: fx.Node) -> Linear | None:
    """
    Read a node that is a fully-connected layer; None for any other.

    So is a convolution of 1 x 1 for maps of one place, and a function whose weights are constant.
    """
    if node.op == 'call_module':
        part, source = layers.graph_module.get_submodule(str(node.target)), node.all_input_nodes[0]
        if type(part) is nn.Conv2d:
            linear = (part.kernel_size == (1, 1) and part.padding == (0, 0) and part.groups == 1
                      and is_single(layers.shape_of(source)))
        else:
            linear = type(part) is nn.Linear
        return Linear(source, part.get_parameter('weight'),
                      getattr(part, 'bias', None)) if linear else None
    if node.target is not nn.functional.linear:
        return None
    named = {**dict(zip(('input', 'weight', 'bias'), node.args)), **node.kwargs}
    constants = [named.get(name) for name in ('weight', 'bias')]
    if any(isinstance(given, fx.Node) and given.op != 'get_attr' for given in constants):
        return None
    weight, bias = (attribute(layers, given) for given in constants)
    entering = named['input']
    if weight is None or not isinstance(entering, fx.Node):
        return None
    return Linear(entering, weight, bias)


def attribute(layers: NetworkLayers, node: Any) -> torch.Tensor | None:
    """Return the parameter that a `get_attr` node reads."""
    if not isinstance(node, fx.Node):
        return None
    path, _, name = str(node.target).rpartition('.')
    return getattr(layers.graph_module.get_submodule(path), name)
