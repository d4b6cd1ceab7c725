"""
What only pools a map changes where its gradient lies, but not how much of it there is.

A maximum hands the gradient of each value to one place of the map, an average divides it among the
places that it was made of. So the sum over a map, which is all that Grad-CAM asks for, is known
from the sum over what the map was pooled into.
"""

from __future__ import annotations

from torch import fx, nn

from .names import is_single
from .network_layers import NetworkLayers, PASSED_OVER

__all__ = ['places_behind']

WITHOUT_PADDING = ('AvgPool2d', 'avg_pool2d')
POOLED = ('AdaptiveAvgPool2d', 'AdaptiveMaxPool2d', 'MaxPool2d', 'adaptive_avg_pool2d',
          'adaptive_max_pool2d', 'max_pool2d', *WITHOUT_PADDING)
ROWS_AND_COLUMNS = ((2, 3), (3, 2), (-2, -1), (-1, -2))
# Arguments of F.avg_pool2d (input, kernel, stride) behind which these come.
PLAIN_ARGUMENTS = 3
OF_ONES_OWN = {'padding', 'divisor_override'}


def places_behind(layers: NetworkLayers, start: fx.Node, end: fx.Node) -> int:
    """
    Return how many values at `end`, (C * places,), each map (C, h, w) of `start` was pooled into.

    Those of one map lie beside each other; (C, 1, 1) is one of each. 0 where more than pooling
    lies between the two.
    """
    maps, pooled = layers.shape_of(start), layers.shape_of(end)
    node = end
    while node is not start:
        if len(node.all_input_nodes) != 1 or not only_pools(layers, node):
            return 0
        node = node.all_input_nodes[0]
    if len(maps) != 3 or not is_single(pooled) or pooled[0] % maps[0]:
        return 0
    return pooled[0] // maps[0]


def only_pools(layers: NetworkLayers, node: fx.Node) -> bool:
    """Tell whether a node leaves the sum of the gradient over each map (C, h, w) as it was."""
    kind = layers.kind_of(node)
    if kind == 'mean':
        axes = node.args[1] if len(node.args) > 1 else node.kwargs.get('dim')
        return isinstance(axes, (tuple, list)) and tuple(axes) in ROWS_AND_COLUMNS
    if kind in WITHOUT_PADDING:
        return is_plain_average(layers, node)
    return kind in (*PASSED_OVER, *POOLED)


def is_plain_average(layers: NetworkLayers, node: fx.Node) -> bool:
    """Tell whether an average pooling divides by the number of places that it adds up."""
    if node.op == 'call_module':
        part = layers.graph_module.get_submodule(str(node.target))
        return (isinstance(part, nn.AvgPool2d) and part.divisor_override is None
                and part.padding in (0, (0, 0)))
    return len(node.args) <= PLAIN_ARGUMENTS and not OF_ONES_OWN & set(node.kwargs)
