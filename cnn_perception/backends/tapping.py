"""
Tapped networks: the same network with the activations of named layers as further outputs.

A tapped network is only another network. It is derived from the traced graph, so nothing is
hooked and whatever runs or compiles a module runs it as well. Names are torchvision's feature
extraction names: the path of the module (`layer1.0.conv1`) or of the operation (`layer1.0.add`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import difflib
from functools import partial
import sys

from cnn_perception.architectures.efficientnet import SamePadConv2d
from cnn_perception.quick_imports import import_quickly
from cnn_perception.turns import TRACING
import torch
from torch import fx, nn

__all__ = ['TappedNetwork']

feature_extraction = import_quickly('torchvision.models.feature_extraction')


class TappedNetwork:
    """The traced graph of a network, from which tapped modules are derived."""

    def __init__(self, module: nn.Module) -> None:
        """Trace a module in evaluation mode; ValueError where its control flow forbids it."""
        tracer = feature_extraction.NodePathTracer(**tracing_options())
        try:
            with TRACING.alone():
                self._graph = tracer.trace(module.eval())
        except (fx.proxy.TraceError, RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f'layers of {type(module).__name__} cannot be tapped, because its '
                             f'forward pass cannot be traced: {error}') from error
        self._root = tracer.root
        self._names = {name: node for node, name in tracer.node_to_qualname.items()
                       if node.op not in ('placeholder', 'output', 'get_attr')}
        self._overwritten: set[fx.Node] = set()
        order = {node: place for place, node in enumerate(self._graph.nodes)}
        for node in self._graph.nodes:
            in_place = node.kwargs.get('inplace') is True
            if (in_place or overwrites(node)) and node.args and isinstance(node.args[0], fx.Node):
                # A statement of its own: what comes later means the result and names the input.
                node.args[0].replace_all_uses_with(node, partial(follows, order, node))
                if not in_place:
                    self._overwritten.add(node.args[0])
            if in_place:
                # It would overwrite the activation of the layer before it.
                node.kwargs = {**node.kwargs, 'inplace': False}

    @property
    def layer_names(self) -> list[str]:
        """Names of all layers, in the order of the forward pass."""
        return list(self._names)

    def derive(self, taps: Sequence[str], keep: bool = True) -> fx.GraphModule:
        """
        Return a module (N, C, h, w) -> (logits, {tap: activation}), sharing the weights.

        keep: the activations as the layers gave them; else the layers' own nodes, of which some
        networks overwrite what they gave. Raises ValueError with near matches for an unknown
        layer.
        """
        for name in taps:
            if name not in self._names:
                near = difflib.get_close_matches(name, self._names, n=3, cutoff=0.4)
                raise ValueError(f"no layer is called '{name}'"
                                 + (f'; near matches: {", ".join(near)}' if near else ''))
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        logits = graph.graph_copy(self._graph, copied)
        shown = {name: copied[self._names[name]] for name in taps}
        for name in shown if keep else ():
            if self._names[name] in self._overwritten:
                with graph.inserting_after(node := shown[name]):
                    shown[name] = graph.call_method('clone', (node,))
        graph.output((logits, shown))
        return fx.GraphModule(self._root, graph).eval()


def follows(order: Mapping[fx.Node, int], node: fx.Node, user: fx.Node) -> bool:
    """Tell whether a user of a node's input comes after the node."""
    return order[user] > order[node]


def overwrites(node: fx.Node) -> bool:
    """Tell whether a node is a method or function that writes to a tensor, as `mul_` does."""
    name = str(getattr(node.target, '__name__', node.target))
    # Python's own operator.and_ and its like write to nothing.
    return (node.op in ('call_method', 'call_function') and name.endswith('_')
            and not name.endswith('__')
            and getattr(node.target, '__module__', '') != '_operator')


def tracing_options() -> dict[str, list | tuple]:
    """Modules and functions, timm's too, that decide on sizes and so must not be traced into."""
    leaves = default_leaves()
    own: dict[str, list | tuple] = {'leaf_modules': leaves}
    if 'timm' not in sys.modules:
        return own  # nobody has made a network of it
    try:
        from timm.models._features_fx import get_notrace_functions, get_notrace_modules
    except ImportError:  # of another version
        return own
    functions = tuple(function for function in get_notrace_functions() if callable(function))
    return {'leaf_modules': [*leaves, *get_notrace_modules()],
            'autowrap_functions': functions}


def default_leaves() -> list[type[nn.Module]]:
    """Normalisation layers that torchvision too keeps whole, and padding by size."""
    return [torch.nn.modules.batchnorm.BatchNorm2d, SamePadConv2d]
