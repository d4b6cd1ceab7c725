"""
Convolutions of a GPU that do what follows them before they write.

cuDNN computes `max(0, convolution + bias)` and `max(0, convolution + bias + map)`, the end of a
residual block (He et al. 2015, arXiv:1512.03385), in one kernel. Apart they are up to four, each
of which takes hardly less time than a small convolution: a third of ResNet-50's with one picture.
Convolutions of 1 x 1 with other activations behind them are matrix products, to which cuBLAS adds
the bias.
"""

from __future__ import annotations

import operator
from typing import cast

from cnn_perception.backends.folding import set_part
import torch
from torch import fx, nn
import torch.nn.functional

__all__ = ['fused', 'multiplied']

ADDITIONS = (operator.add, operator.iadd, torch.add)
CUTS = (torch.relu, torch.relu_, torch.nn.functional.relu)


def fused(network: fx.GraphModule) -> int:
    """
    Replace, in place, convolutions and what follows them by one call; returns how many.

    network: for a GPU, without hooks or taps: the layers between are not computed any more.
    """
    for node in [*network.graph.nodes]:
        if node.op == 'call_module' and has_one_argument(node) and type(
                network.get_submodule(str(node.target))) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            network.graph.erase_node(node)
    count = 0
    for node in [*network.graph.nodes]:
        if not is_cut(network, node):
            continue
        source = node.all_input_nodes[0]
        terms = source.all_input_nodes if is_addition(source) else [source]
        found = [(term, layer) for term in terms
                 if len(term.users) == 1 and (layer := convolution_of(network, term))]
        if not found:
            continue
        # It will be run where the rectifier was: the one that is nearest moves least.
        order = [*network.graph.nodes]
        convolution, layer = max(found, key=lambda pair: order.index(pair[0]))
        others = [term for term in terms if term is not convolution]
        name = str(convolution.target)
        set_part(network, name, FusedConvolution(layer))
        with network.graph.inserting_before(node):
            call = network.graph.call_module(name, (convolution.args[0], *others))
        node.replace_all_uses_with(call)
        for gone in dict.fromkeys((node, source, convolution)):
            network.graph.erase_node(gone)
        count += 1
    network.delete_all_unused_submodules()
    network.recompile()
    return count


def multiplied(network: fx.GraphModule) -> int:
    """Replace, in place, convolutions of 1 x 1 by matrix products; returns how many."""
    found = [(str(node.target), layer) for node in network.graph.nodes
             if (layer := convolution_of(network, node)) and layer.kernel_size == (1, 1)
             and layer.stride == (1, 1) and layer.padding == (0, 0) and layer.bias is not None]
    for name, layer in found:
        set_part(network, name, PointwiseConvolution(layer))
    return len(found)


class PointwiseConvolution(nn.Module):
    """Computes a convolution of 1 x 1 over maps whose channels come last in memory."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take the weights over."""
        super().__init__()
        self.weight = nn.Parameter(convolution.weight.flatten(1), requires_grad=False)
        self.bias = convolution.bias

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Run (N, C, h, w)."""
        count, channels, height, width = maps.shape
        rows = maps.permute(0, 2, 3, 1).reshape(-1, channels)  # (N * h * w, C)
        made = torch.nn.functional.linear(rows, self.weight, self.bias)
        return made.view(count, height, width, -1).permute(0, 3, 1, 2)  # (N, C', h, w)


class FusedConvolution(nn.Module):
    """Computes `max(0, convolution + bias)`, or with a map `max(0, convolution + bias + map)`."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take the weights over."""
        super().__init__()
        self.weight = convolution.weight
        self.bias = convolution.bias if convolution.bias is not None else nn.Parameter(
            convolution.weight.new_zeros(convolution.out_channels), requires_grad=False)
        self._shape = (convolution.stride, cast('tuple[int, ...]', convolution.padding),
                       convolution.dilation, convolution.groups)

    def forward(self, maps: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """Run (N, C, h, w), on a GPU alone; added: a map of the answer's shape."""
        if added is None:
            return torch.cudnn_convolution_relu(maps, self.weight, self.bias, *self._shape)
        # Nobody else checks: cuDNN would read beyond the end of a smaller map.
        expected = self.output_shape(maps)
        if added.shape != expected:
            raise RuntimeError(f'a map of {tuple(added.shape)} is added to one of '
                               f'{tuple(expected)}, expected the same shape')
        return torch.cudnn_convolution_add_relu(maps, self.weight, added, 1.0, self.bias,
                                                *self._shape)

    def output_shape(self, maps: torch.Tensor) -> tuple[int, ...]:
        """Return (N, C', h', w'), what the convolution makes of (N, C, h, w)."""
        strides, paddings, dilations, _ = self._shape
        sides = [(side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
                 for side, kernel, stride, padding, dilation in zip(
                     maps.shape[2:], self.weight.shape[2:], strides, paddings, dilations)]
        return len(maps), len(self.weight), *sides


def has_one_argument(node: fx.Node) -> bool:
    """Tell whether a layer is called with a map, and not by name."""
    return len(node.args) == 1 and not node.kwargs


def is_cut(network: fx.GraphModule, node: fx.Node) -> bool:
    """Tell whether a node is a rectifier of one map, as a layer, a function or a method."""
    if len(node.all_input_nodes) != 1:
        return False
    if node.op == 'call_module':
        layer = network.get_submodule(str(node.target))
        if type(layer) is nn.Sequential:
            # What folding leaves of a normalisation with an activation, timm's say.
            parts = [part for part in layer if type(part) is not nn.Identity]
            return len(parts) == 1 and type(parts[0]) is nn.ReLU
        return type(layer) is nn.ReLU
    return (node.op == 'call_function' and node.target in CUTS) or (
        node.op == 'call_method' and node.target in ('relu', 'relu_'))


def is_addition(node: fx.Node) -> bool:
    """Tell whether a node adds two maps, which nothing else reads, and does nothing else."""
    return (node.op == 'call_function' and node.target in ADDITIONS and not node.kwargs
            and len(node.args) == len({*node.all_input_nodes}) == 2 and len(node.users) == 1)


def convolution_of(network: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the convolution that a node, and no other, runs; None for one in groups."""
    if node.op != 'call_module' or not has_one_argument(node):
        return None
    layer = network.get_submodule(str(node.target))
    calls = [other for other in network.graph.nodes
             if other.op == 'call_module' and other.target == node.target]
    fits = (type(layer) is nn.Conv2d and layer.groups == 1 and layer.padding_mode == 'zeros'
            and not isinstance(layer.padding, str) and len(calls) == 1)
    return layer if fits and isinstance(layer, nn.Conv2d) else None
