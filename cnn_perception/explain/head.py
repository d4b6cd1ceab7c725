"""The part of a network behind one of its layers, as a network of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx, nn

from .dense_head import dense_head, DenseHead, linear_of
from .names import is_spatial
from .network_layers import NetworkLayers, reachable
from .pooling import places_behind

__all__ = ['Head', 'find_layer', 'split']

# What these give is what they were given, or less of it.
PASSIVE = ('pool', 'drop', 'identity', 'flatten')
# So many layers are more than a classifier.
MANY = 20

AFFINE_MODULES = (nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Conv2d, nn.BatchNorm2d, nn.Dropout,
                  nn.Flatten, nn.Identity, nn.Linear)
AFFINE_OPERATIONS = ('adaptive_avg_pool2d', 'avg_pool2d', 'dropout', 'flatten', 'mean')


@dataclass(frozen=True)
class Head:
    """
    What turns activations into logits.

    module: takes the activations of the layer and of `around`, in that order, and returns (N, F),
    which the weights `last` (K, F) turn into logits; (N, K) logits where that is None. taps: the
    layer itself, behind it `around`, those whose values go around it as a residual's input does,
    and what `dense` needs. affine: whether all of it only adds and weighs, so that its gradient
    is the same for every picture. dense: the fully-connected layers between `module` and `last`,
    if any, and none for CAM, where the pooling comes before `last`. places: how many values
    `module` pools each map into, 0 where it does more than that.
    """

    module: fx.GraphModule
    last: torch.Tensor | None
    taps: tuple[str, ...]
    around: tuple[str, ...]
    affine: bool
    dense: DenseHead | None = None
    places: int = 0


def split(layers: NetworkLayers, layer: str) -> Head:
    """
    Cut the graph behind a layer.

    Raises ValueError where the logits do not depend on the layer, or depend on the picture
    directly as well.
    """
    start = layers.nodes[layer]
    needed = between(start, layers.logits)
    if layers.logits not in needed:
        raise ValueError(f"the answer of {layers.title} does not depend on layer '{layer}': "
                         'choose another')
    computed, given = frontier(needed, start, layers)
    around = []
    for node in given:
        name = layers.names_of.get(node)
        if name not in layers.shapes:
            raise ValueError(f"{layers.title} cannot be cut behind '{layer}': what follows "
                             f"reads '{node}' again, which is no layer; choose a later one")
        around.append(name)
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {
        node: graph.placeholder(f'tap_{index}')
        for index, node in enumerate([start, *given])}
    end, last = layers.logits, None
    final = linear_of(layers, end)
    if final is not None and final.weight.ndim == 2 and final.source in computed:
        end, last = final.source, final.weight
    affine = not given and all(is_affine(layers, node) for node in computed)
    dense, places = None, 0
    if affine and last is not None and places_behind(layers, start, end) == 1:
        dense, places = DenseHead(end, ()), 1
    elif last is not None and not affine:
        dense = dense_head(layers, end, computed)
        if dense is not None:
            end = dense.entry
            places = places_behind(layers, start, end)
    wanted = sources(end)
    for node in layers.graph_module.graph.nodes:
        if node in computed and node in wanted:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(copied[end])
    return Head(fx.GraphModule(layers.graph_module, graph).eval(), last, tuple(dict.fromkeys(
        (layer, *around, *(dense.taps if dense is not None else ())))), tuple(around), affine,
        dense, places)


def is_affine(layers: NetworkLayers, node: fx.Node) -> bool:
    """Tell whether a node, in evaluation mode, computes weighted sums of its input and no more."""
    if node.op == 'call_module':
        return type(layers.graph_module.get_submodule(str(node.target))) in AFFINE_MODULES
    if node.op == 'get_attr' or linear_of(layers, node) is not None:
        return True
    return getattr(node.target, '__name__', node.target) in AFFINE_OPERATIONS


def between(start: fx.Node, end: fx.Node) -> set[fx.Node]:
    """Return the nodes that depend on `start` and that `end` depends on, `end` with them."""
    behind = reachable(start)
    needed: set[fx.Node] = set()
    waiting = [end] if end in behind else []
    while waiting:
        node = waiting.pop()
        if node in behind and node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def sources(end: fx.Node) -> set[fx.Node]:
    """Return a node and all that it depends on."""
    found: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def frontier(needed: set[fx.Node], start: fx.Node, layers: NetworkLayers
             ) -> tuple[set[fx.Node], list[fx.Node]]:
    """
    Return what has to be computed for the nodes `needed`, and what has to be given beside `start`.

    What depends on no picture, as weights and what is made of them, and sizes read off a tensor
    are computed again rather than given: they are no layers that could be tapped.
    """
    pictures = layers.behind_input
    computed, given = set(needed), dict[fx.Node, None]()
    waiting = [source for node in needed for source in node.all_input_nodes]
    while waiting:
        node = waiting.pop()
        if node in computed or node is start:
            continue
        if node.op != 'placeholder' and (node not in pictures or is_size(node)):
            computed.add(node)
            waiting += node.all_input_nodes
        else:
            given[node] = None
    return computed, sorted(given)


def is_size(node: fx.Node) -> bool:
    """Tell whether a node reads or computes sizes: numbers, not tensors."""
    if node.op == 'call_method':
        return node.target in ('size', 'dim')
    if node.op == 'call_function':
        if node.target is getattr:
            return node.args[1] in ('shape', 'dtype', 'device', 'ndim')
        name = getattr(node.target, '__name__', '')
        if name in ('getitem', 'floordiv', 'mul', 'add', 'sub', 'eq'):
            return all(is_size(source) for source in node.all_input_nodes)
    return False


def find_layer(layers: NetworkLayers) -> str:
    """
    Return the last layer with rows and columns through which the whole answer passes.

    Poolings behind the last convolution are passed over, as the maps before them are finer.
    Raises ValueError for a network without such a layer.
    """
    remedy = ''
    for node in reversed(layers.graph_module.graph.nodes):
        if not is_spatial(layers.shape_of(node), layers.input_shape):
            continue
        while is_passive(layers, node):
            node = node.all_input_nodes[0]
        if not is_spatial(layers.shape_of(node), layers.input_shape):
            continue
        behind = between(node, layers.logits)
        if layers.logits not in behind or frontier(behind, node, layers)[1]:
            continue
        shapes = [layers.shape_of(later) for later in behind]
        # Tokens, (L, F), mix all places: a map before them says nothing about the answer.
        if any(len(shape) == 2 for shape in shapes):
            break
        # Nor does one before a network that keeps its channels last, which costs all of that.
        if len(behind) > max(MANY, len(layers.names) / 2) and any(
                len(shape) == 3 and is_spatial((shape[2], *shape[:2]), layers.input_shape)
                for shape in shapes):
            remedy = ', or name a layer'
            break
        return layers.names_of[node]
    raise ValueError(f'{layers.title} has no layer with rows and columns before its classifier, '
                     'so there is no class activation map: choose a convolutional network'
                     + remedy)


def is_passive(layers: NetworkLayers, node: fx.Node) -> bool:
    """Tell whether a node only pools or passes on what its one input gives."""
    kind = layers.kind_of(node)
    return (any(word in kind.lower() for word in PASSIVE) and len(node.all_input_nodes) == 1)
