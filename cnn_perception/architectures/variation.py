"""
What the lectures vary about a network: the same layers with 1x1, strided, normalised, dropped.

A variation rewrites a list of layers, so that it applies to every own and every YAML network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .blocks import ACTIVATIONS
from .errors import ArchitectureError, shown
from .network import given_names, layer_name, normal_layer, read_options

__all__ = ['DOWNSAMPLING', 'Variation', 'vary']

DOWNSAMPLING = ('pool', 'strided_conv')


@dataclass(frozen=True)
class Variation:
    """
    The options of an own or YAML network; the default changes nothing.

    batchnorm: a batch normalisation behind every convolution (Ioffe and Szegedy 2015).
    downsampling: 'pool' keeps the pooling layers, 'strided_conv' puts a convolution of the same
    kernel, stride and channels in their place (Springenberg et al. 2015); ceil has no such
    counterpart.
    channel_dropout: probability in [0, 1) of dropping whole channels behind each activation of a
    convolution (Tompson et al. 2015); 0 leaves it out.
    conv_1x1: a 1x1 convolution and an activation behind each larger one (Lin et al. 2014).
    """

    batchnorm: bool = False
    downsampling: str = 'pool'
    channel_dropout: float = 0.0
    conv_1x1: bool = False

    def __post_init__(self) -> None:
        """Refuse values that mean nothing, with ArchitectureError."""
        for name in ('batchnorm', 'conv_1x1'):
            if not isinstance(getattr(self, name), bool):
                raise ArchitectureError(
                    f'{name}: got {shown(getattr(self, name))}, expected true or false')
        if self.downsampling not in DOWNSAMPLING:
            raise ArchitectureError(f'downsampling: got {shown(self.downsampling)}, expected '
                                    f'{" or ".join(DOWNSAMPLING)}')
        dropped = self.channel_dropout
        if isinstance(dropped, bool) or not isinstance(dropped, (int, float)) or not (
                0 <= dropped < 1):
            raise ArchitectureError(f'channel_dropout: got {shown(dropped)}, expected a '
                                    'probability of at least 0 and below 1')


def vary(layers: Sequence[Any], variation: Variation) -> list[dict[str, Any]]:
    """
    Return the layers in their normal form with a variation applied.

    Blocks (residual, inception) have their own options and stay as they are. Raises
    ArchitectureError for a layer that has no normal form, and for pooling with ceil that a
    strided convolution should replace.
    """
    rest = [_normal(index, layer) for index, layer in enumerate(layers)]
    if variation == Variation():
        return rest
    rest = _named(rest)
    activation = next((layer['type'] for layer in rest if layer['type'] in ACTIVATIONS), 'relu')
    if variation.downsampling == 'strided_conv':
        rest = [part for layer in rest for part in _unpooled(layer, activation)]
    result: list[dict[str, Any]] = []
    pending: dict[str, Any] | None = None
    for index, layer in enumerate(rest):
        following = rest[index + 1]['type'] if index + 1 < len(rest) else None
        if layer['type'] == 'conv':
            pending = layer
            result += _normalised(layer, variation.batchnorm and following != 'batchnorm')
            continue
        result.append(layer)
        if layer['type'] in ACTIVATIONS and pending is not None:
            if variation.conv_1x1 and pending.get('kernel') not in (1, [1, 1], (1, 1)):
                name = f'{pending["name"]}_1x1'
                mixing = {'type': 'conv', 'name': name, 'channels': 'same', 'kernel': 1}
                result += [*_normalised(mixing, variation.batchnorm),
                           {'type': layer['type'], 'name': f'{name}_{layer["type"]}'}]
            if variation.channel_dropout:
                result.append({'type': 'channel_dropout', 'p': variation.channel_dropout,
                               'name': f'{pending["name"]}_channel_dropout'})
        if layer['type'] != 'batchnorm':  # which may stand between a convolution and its own
            pending = None
    return result


def _normal(index: int, layer: Any) -> dict[str, Any]:
    try:
        return normal_layer(layer)
    except ArchitectureError as error:
        raise ArchitectureError(f'layer {index}: {error}') from None


def _named(layers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Name every layer, so that a layer keeps its name whatever a variation adds around it."""
    counts: Counter[str] = Counter()
    given = given_names(layers)
    return [{**layer, 'name': layer_name(layer, counts, given)} for layer in layers]


def _normalised(layer: dict[str, Any], batchnorm: bool) -> list[dict[str, Any]]:
    if not batchnorm:
        return [layer]
    # The normalisation subtracts the mean, and a bias with it.
    return [{**layer, 'bias': False},
            {'type': 'batchnorm', 'name': f'{layer["name"]}_bn'}]


def _unpooled(layer: dict[str, Any], activation: str) -> list[dict[str, Any]]:
    if layer['type'] != 'pool':
        return [layer]
    try:
        read_options(layer, 1)
    except ArchitectureError as error:
        raise ArchitectureError(f'downsampling: {layer["name"]} (pool): {error}') from None
    ceil = layer.get('ceil', False)
    if ceil is not False:
        raise ArchitectureError(
            f'downsampling: {layer["name"]} (pool) has ceil: {shown(ceil)}, and a convolution '
            'has no window that hangs over the end: leave ceil out, or give the pool a padding '
            'that makes its windows fit')
    kernel = layer.get('kernel', 2)
    stride = layer.get('stride', 'kernel')
    conv = {'type': 'conv', 'name': layer['name'], 'channels': 'same', 'kernel': kernel,
            'stride': kernel if stride == 'kernel' else stride,
            'padding': layer.get('padding', 0)}
    return [conv, {'type': activation, 'name': f'{layer["name"]}_{activation}'}]
