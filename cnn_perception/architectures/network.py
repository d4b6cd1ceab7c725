"""
From a list of layers to a network: names given, shapes inferred, misfits explained.

Used by the lecture networks, which are such lists in Python, and by those written in YAML.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
import math
import re
from typing import Any

import torch
from torch import nn

from .errors import ArchitectureError, did_you_mean, shape_text, shown
from .layer_keys import CLASSES
from .layer_types import LAYER_TYPES, LayerType, Shape

__all__ = ['LayeredNetwork', 'build_network', 'given_names', 'layer_name', 'normal_layer',
           'read_options']

_MOST_LAYERS = 10_000
_MOST_VALUES = 2 ** 31
_TOPIC_NAME = re.compile('[A-Za-z][A-Za-z0-9_]{0,99}')
_ONCE = ('flatten', 'global_average_pool')
_INSTEAD = {
    'softmax': ' Networks return scores, to which the classifier applies the softmax: leave it '
               'out.',
    **dict.fromkeys(('fc', 'dense'), ' Did you mean linear?'), 'bn': ' Did you mean batchnorm?',
    'lrn': ' Did you mean local_response_norm?'}


class LayeredNetwork(nn.Sequential):
    """
    A chain of named layers that knows its input.

    Takes (N, *input_shape) float32 and returns (N, classes) scores before the softmax, which the
    loss and the classifier apply.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], input_shape: tuple[int, int, int]
                 ) -> None:
        """Take the layers in order and the (C, H, W) of one input."""
        super().__init__(layers)
        self.input_shape = input_shape


def normal_layer(layer: Any) -> dict[str, Any]:
    """
    Return a layer in its normal form: a new dict with `type` and the keys as written.

    Accepts 'relu', {'dropout': 0.5}, {'conv': {'channels': 6, 'kernel': 5}} and
    {'type': 'conv', 'channels': 6, 'kernel': 5}. Raises ArchitectureError for anything else and
    for unknown types.
    """
    if isinstance(layer, str):
        layer = {'type': layer}
    if not isinstance(layer, Mapping) or not all(isinstance(key, str) for key in layer):
        raise ArchitectureError(
            f'got {shown(layer)}, expected a type with its keys, as in '
            'conv: {channels: 6, kernel: 5}')
    if 'type' in layer:
        kind, keys = layer['type'], {key: layer[key] for key in layer if key != 'type'}
    elif len(layer) == 1:
        (kind, content), = layer.items()
        if isinstance(content, Mapping):
            keys = dict(content)
            if 'type' in keys:
                raise ArchitectureError(f'got a type, {shown(keys["type"])}, among the keys of '
                                        f'{shown(kind)}: write it once')
        elif content is None:
            keys = {}
        else:
            known = LAYER_TYPES.get(kind)
            if known is not None and known.value_key is None:
                raise ArchitectureError(
                    f'got {shown(content)} for {kind}, expected its keys: '
                    f'{_keys_text(known)}')
            keys = {known.value_key if known and known.value_key else 'value': content}
    else:
        raise ArchitectureError(
            f'got the keys {", ".join(sorted(layer))} without a type: write type: conv beside '
            'them, or conv: {...} around them')
    if not isinstance(kind, str) or kind not in LAYER_TYPES:
        word = str(kind).lower()
        hint = _INSTEAD.get(word) or did_you_mean(word, LAYER_TYPES)
        raise ArchitectureError(
            f'unknown layer type {shown(kind)}.{hint} The types are {", ".join(LAYER_TYPES)}')
    if kind == 'pool' and type(keys.get('kind')) is int:
        raise ArchitectureError(f'got pool: {keys["kind"]}, expected max or avg; for a kernel of '
                                f'that size, write pool: {{kernel: {keys["kind"]}}}')
    return {'type': kind, **keys}


def _keys_text(kind: LayerType) -> str:
    keys = [name if key.required else f'{name} (optional)' for name, key in kind.keys.items()]
    return ', '.join(['name (optional)', *keys])


def read_options(layer: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Return the values of all keys of a layer in its normal form, with those left out."""
    kind = LAYER_TYPES[layer['type']]
    for key in layer:
        if key not in ('type', 'name') and key not in kind.keys:
            raise ArchitectureError(
                f'unknown key {shown(key)}.{did_you_mean(str(key), [*kind.keys, "name"])} '
                f'The keys are: {_keys_text(kind)}')
    options = {}
    for name, rule in kind.keys.items():
        if name not in layer and rule.required:
            raise ArchitectureError(f'the key {name} is missing: give {rule.expected}')
        try:
            options[name] = rule.read(layer.get(name, rule.default))
        except ArchitectureError as error:
            raise ArchitectureError(f'{name}: {error}') from None
    if options.get('features') == CLASSES:
        options['features'] = classes
    return options


def layer_name(layer: Mapping[str, Any], counts: Counter[str], given: set[str]) -> Any:
    """
    Return a layer's name: its own, or its type and number, conv1, conv2, ...

    counts holds the numbers so far and is brought up to date; given are the names of other layers,
    which an unnamed layer avoids.
    """
    prefix = LAYER_TYPES[layer['type']].prefix or layer['type']
    counts[prefix] += 1
    if 'name' in layer:
        return layer['name']
    # Most networks flatten once: that layer is called flatten, as in the lectures' tables.
    name = prefix if layer['type'] in _ONCE and counts[prefix] == 1 else None
    while name is None or name in given:
        name = f'{prefix}{counts[prefix]}'
        counts[prefix] += name in given
    return name


def given_names(layers: Sequence[Any]) -> set[str]:
    """Return the names that layers are given anywhere, for the unnamed ones to avoid."""
    names: set[str] = set()
    for layer in layers:
        contents = [layer, *layer.values()] if isinstance(layer, Mapping) else []
        names.update(one['name'] for one in contents
                     if isinstance(one, Mapping) and isinstance(one.get('name'), str))
    return names


def _check_name(name: Any, taken: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not _TOPIC_NAME.fullmatch(name) or '__' in name:
        raise ArchitectureError(
            f'got the name {shown(name)}, expected letters, digits and single underscores, a '
            'letter first, as it becomes the name of a topic')
    if name in taken:
        raise ArchitectureError(f'the name {name} is taken by an earlier layer: give another')
    if hasattr(LayeredNetwork, name) or name in ('training', 'input_shape'):
        raise ArchitectureError(
            f'the name {name} means something to PyTorch already: give another, {name}_1 say')


def build_network(layers: Sequence[Any], input_shape: tuple[int, int, int],
                  classes: int) -> LayeredNetwork:
    """
    Build the network that a list of layers describes.

    Each layer is what `normal_layer` accepts; nothing says its input size, which is inferred from
    `input_shape` (C, H, W). The last layer has to give `classes` values; `features: classes`
    does for whatever number is asked for. Raises ArchitectureError that names the layer by its
    index from 0 and its name, with the shape it got and what would fit.
    """
    if not layers or len(layers) > _MOST_LAYERS:
        raise ArchitectureError(
            f'got {len(layers)} layers, expected at least 1 and at most {_MOST_LAYERS}')
    with torch.device('meta'):
        planned = _build(layers, input_shape, classes)
    total = sum(parameter.numel() for part in planned.values() for parameter in part.parameters())
    if total > _MOST_VALUES:
        raise ArchitectureError(
            f'the network would have {total:,} parameters, expected at most {_MOST_VALUES:,}: '
            'pool more before the fully-connected layers, or make them smaller')
    return LayeredNetwork(_build(layers, input_shape, classes), input_shape)


def _build(layers: Sequence[Any], input_shape: tuple[int, int, int],
           classes: int) -> OrderedDict[str, nn.Module]:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    counts: Counter[str] = Counter()
    given = given_names(layers)
    shape: Shape = input_shape
    for index, layer in enumerate(layers):
        where = f'layer {index}'
        try:
            layer = normal_layer(layer)
            where += f' ({layer["type"]})'
            name = layer_name(layer, counts, given)
            _check_name(name, modules)
            where = f'layer {index}, {name} ({layer["type"]})'
            options = read_options(layer, classes)
            modules[name], shape = LAYER_TYPES[layer['type']].build(shape, options)
        except (ArchitectureError, RuntimeError) as error:
            raise ArchitectureError(f'{where}: {error}') from error
        if math.prod(shape) > _MOST_VALUES:
            raise ArchitectureError(f'{where}: gives {shape_text(shape)}, which is too large: '
                                    'take a smaller input, fewer channels or less padding')
    if shape != (classes,):
        raise ArchitectureError(
            f'{where}: the last layer gives {shape_text(shape)}, expected {classes}, one score a '
            f'class: end with linear: {CLASSES}, or make it give that many')
    return modules
