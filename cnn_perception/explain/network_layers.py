"""The layers of a network as its traced graph has them, and the shapes of what they give."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from cnn_perception.architectures.catalogue import stated_input_shape
from cnn_perception.backends.base import first_line
from cnn_perception.backends.tapping import TappedNetwork
from cnn_perception.classifier import Classifier
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import fx, nn

__all__ = ['NetworkLayers', 'PASSED_OVER', 'first_convolution', 'reachable']

Shape = tuple[int, ...]
IMAGENET_SHAPE = (3, 224, 224)
# What hands a value and its gradient on as they are; see `NetworkLayers.kind_of`.
PASSED_OVER = ('Dropout', 'Flatten', 'Identity', 'dropout', 'flatten')


class NetworkLayers:
    """
    A network's graph, its layer names and their nodes.

    network: a `Classifier`, or a module (N, C, h, w) -> (N, K) logits in evaluation mode.
    input_shape: (C, h, w) of one input; None is the classifier's own or what the module says of
    itself (`input_shape`, timm's `pretrained_cfg`), else (3, 224, 224). Tracing takes some ten
    milliseconds, the shapes one forward pass; both are done once. Raises ValueError where the
    forward pass cannot be traced.
    """

    def __init__(self, network: Classifier | nn.Module, input_shape: Shape | None = None) -> None:
        """Trace the network."""
        self.backend = network.backend if isinstance(network, Classifier) else None
        if isinstance(network, Classifier):
            preprocessing = network.network.preprocessing
            self.input_shape = input_shape or (preprocessing.channels, *preprocessing.crop)
            self.module = network.network.module
        else:
            self.module = network
            self.input_shape = input_shape or own_input_shape(network)
        # An engine that runs the network in other numbers has a module of its own.
        traced = (self.backend.traced() if self.backend and self.backend.module is self.module
                  else TappedNetwork(self.module))
        self.names = traced.layer_names
        self.graph_module = traced.derive(self.names, keep=False)
        output = next(node for node in self.graph_module.graph.nodes if node.op == 'output')
        answer: Any = output.args[0]
        self.logits: fx.Node = answer[0]
        self.nodes: dict[str, fx.Node] = dict(answer[1])
        # Without the taps as outputs, a pass can let go of each activation after its last use.
        output.args = (self.logits,)
        self.device = next((parameter.device for parameter in self.module.parameters()),
                           torch.device('cpu'))

    @property
    def title(self) -> str:
        """Name of the network's class, for messages."""
        return type(self.module).__name__

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """
        Shape of each layer's output without the batch, in the order of the forward pass.

        (C, h, w) or (F,), (L, F) for tokens. Layers that give no tensor are left out, and those
        that give the same for every picture. Raises ValueError where what was traced does not run.
        """
        recorder = ShapeRecorder(self.graph_module, {
            node: name for node, name in self.names_of.items() if node in self.behind_input})
        try:
            with TRACING.passing(), torch.inference_mode():
                recorder.run(torch.zeros((1, *self.input_shape), device=self.device))
        except Exception as error:  # what a trace has lost, somebody's network misses in its way
            raise ValueError(f'layers of {self.title} cannot be tapped, because what was traced '
                             f'of its forward pass does not run: {first_line(error)}') from error
        return {name: recorder.shapes[name] for name in self.names if name in recorder.shapes}

    @cached_property
    def behind_input(self) -> set[fx.Node]:
        """Return the nodes that depend on the picture; others are the same for every one."""
        return reachable(next(node for node in self.graph_module.graph.nodes
                              if node.op == 'placeholder'))

    @cached_property
    def names_of(self) -> dict[fx.Node, str]:
        """Name of the layer that each node is; other nodes are left out."""
        return {node: name for name, node in self.nodes.items()}

    def shape_of(self, node: fx.Node) -> Shape:
        """Return the shape of a node's output as `shapes` has it, () where it is no layer."""
        return self.shapes.get(self.names_of.get(node, ''), ())

    def kind_of(self, node: fx.Node) -> str:
        """Name the type of a node's module, or its function."""
        if node.op == 'call_module':
            return type(self.graph_module.get_submodule(str(node.target))).__name__
        return getattr(node.target, '__name__', str(node.target))


class ShapeRecorder(fx.Interpreter):
    """Runs a graph once and notes the shapes of its tensors."""

    def __init__(self, module: fx.GraphModule, names: dict[fx.Node, str]) -> None:
        """Note which nodes are layers."""
        super().__init__(module)
        self.shapes: dict[str, Shape] = {}
        self._layers = names

    def run_node(self, n: fx.Node) -> Any:
        """Run a node and note its shape if it is a layer's."""
        result = super().run_node(n)
        name = self._layers.get(n)
        if name is not None and isinstance(result, torch.Tensor) and (
                result.ndim >= 2 and result.shape[0] == 1):
            self.shapes[name] = tuple(int(size) for size in result.shape[1:])
        return result


def reachable(start: fx.Node) -> set[fx.Node]:
    """Return the nodes that depend on a node, without it."""
    behind: set[fx.Node] = set()
    waiting = list(start.users)
    while waiting:
        node = waiting.pop()
        if node not in behind:
            behind.add(node)
            waiting += node.users
    return behind


def own_input_shape(module: nn.Module) -> Shape:
    """Return the (C, h, w) that a module says it was made for, else (3, 224, 224)."""
    shape = stated_input_shape(module)
    return tuple(shape) if isinstance(shape, (tuple, list)) else IMAGENET_SHAPE


def first_convolution(module: nn.Module) -> tuple[str, np.ndarray] | None:
    """
    Find the first convolution over pictures, in the order in which modules were added.

    Returns its name and weight (K, C, kh, kw) float32, None for a network without one.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            return name, part.weight.detach().float().cpu().numpy()
    return None
