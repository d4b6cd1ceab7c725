"""What a tapped layer sees of the network's input: its row of the layer table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cnn_perception.architectures.layer_table import describe, LayerRow
from torch import fx

from .network_layers import NetworkLayers

__all__ = ['field_of', 'field_table']


def field_of(layers: NetworkLayers, layer: str, table: Mapping[str, LayerRow] | None = None
             ) -> LayerRow:
    """
    Return the row of the layer table whose receptive field, jump and offset are a tap's.

    Additions, concatenations and functional activations are taps without a row; theirs is that of
    the widest of what they read, since they look at no neighbours themselves. table: {name: row},
    where it is at hand. Raises ValueError where the layer has no known receptive field.
    """
    if layer not in layers.nodes:
        raise ValueError(f"there is no layer '{layer}'")
    rows = table if table is not None else field_table(layers)
    row = search(layers.nodes[layer], layers, rows)
    if row is None:
        # An operation inside of a layer that the table does not look into.
        around = rows.get(layer.rpartition('.')[0])
        if around is not None and around.output_shape == layers.shapes.get(layer) and (
                around.receptive_field is not None):
            row = around
    if row is None:
        raise ValueError(f"the receptive field of layer '{layer}' of {layers.title} is not known: "
                         'choose a convolution, pooling or activation layer')
    # A concatenation has the channels of all, what is split off it only some.
    return replace(row, name=layer, output_shape=layers.shapes[layer])


def field_table(layers: NetworkLayers) -> dict[str, LayerRow]:
    """Return {name: row} of the layer table of a network."""
    return {row.name: row for row in describe(layers.module, layers.input_shape).rows}


def search(start: fx.Node, layers: NetworkLayers, rows: Mapping[str, LayerRow]
           ) -> LayerRow | None:
    """Look for the widest row at or before a node, on paths that keep rows and columns."""
    size = layers.shape_of(start)[1:]
    found: list[LayerRow] = []
    waiting, seen = [start], {start}
    while waiting:
        node = waiting.pop()
        row = rows.get(layers.names_of.get(node, ''))
        if row is not None and row.output_shape[1:] == size and (
                row.whole_input or row.receptive_field is not None):
            found.append(row)
            continue
        for source in node.all_input_nodes:
            shape = layers.shape_of(source)
            # A path over (C, 1, 1), as in squeeze and excitation, sees everything.
            if source not in seen and len(shape) == 3 and shape[1:] == size:
                seen.add(source)
                waiting.append(source)
    return max(found, key=lambda row: (row.whole_input, row.receptive_field or (0, 0)),
               default=None)
