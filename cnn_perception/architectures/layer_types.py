"""
The layer types that a network can be written with: their keys, their shapes, their modules.

A layer is a mapping with `type`, optionally `name`, and the keys below; `LAYER_TYPES` is the only
table of them, read by the builder, the YAML reader and their error messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
import math
from typing import Any

from torch import nn

from .arithmetic import Window
from .blocks import ACTIVATIONS, GlobalAveragePool, Inception, Residual
from .errors import ArchitectureError, shape_text
from .layer_keys import (
    ACTIVATION, BRANCH, CHANNELS, choice, COUNT, FEATURES, flag, Key, PADDING, POOL_STRIDE,
    PROBABILITY, REDUCED, SIZE, STRIDE)

__all__ = ['LAYER_TYPES', 'LayerType', 'Shape']

Shape = tuple[int, ...]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class LayerType:
    """
    One layer type.

    build takes the input shape (C, H, W) or (F,) and the read keys, and returns the module and
    its output shape. prefix begins the names of unnamed layers, which are numbered; value_key is
    the key that a bare value stands for, as in `dropout: 0.5`.
    """

    build: Callable[[Shape, Options], tuple[nn.Module, Shape]]
    keys: Mapping[str, Key] = field(default_factory=dict)
    prefix: str = ''
    value_key: str | None = None


def _planes(shape: Shape, layer: str) -> Shape:
    if len(shape) != 3:
        raise ArchitectureError(
            f'got shape {shape_text(shape)}, {layer} needs channels x height x width: '
            'put it before flatten and global_average_pool')
    return shape


def _slide(shape: Shape, options: Options,
           ceil_mode: bool = False) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding and the output's H x W of a kernel, or say what would fit."""
    kernel, padding = options['kernel'], options['padding']
    stride, dilation = options['stride'], options.get('dilation', (1, 1))
    if padding == 'same':
        if any(size % 2 == 0 for size in kernel):
            raise ArchitectureError(
                f'got kernel {shape_text(kernel)} with padding same, which needs odd kernels: '
                'write the padding as a number or take an odd kernel')
        padding = tuple(step * (size - 1) // 2 for size, step in zip(kernel, dilation))
    windows = [Window(kernel[axis], stride[axis], padding[axis], padding[axis], dilation[axis],
                      ceil_mode) for axis in (0, 1)]
    height, width = (window.output_size(size) for window, size in zip(windows, shape[1:]))
    if not (height and width):
        largest = [(window.padded(size) - 1) // window.dilation + 1
                   for window, size in zip(windows, shape[1:])]
        needed = max((window.extent - size + 1) // 2 for window, size in zip(windows, shape[1:]))
        raise ArchitectureError(
            f'got shape {shape_text(shape)}, where a kernel of {shape_text(kernel)} with padding '
            f'{shape_text(padding)} has no room: a kernel up to {shape_text(largest)} would fit, '
            f'or a padding of at least {needed}, or fewer pooling layers before it')
    return padding, (height, width)


def _conv(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    inputs = _planes(shape, 'a convolution')[0]
    outputs = inputs if options['channels'] == 'same' else options['channels']
    groups = options['groups']
    if inputs % groups or outputs % groups:
        raise ArchitectureError(
            f'got {groups} groups for {inputs} input and {outputs} output channels: groups has '
            'to divide both')
    padding, size = _slide(shape, options)
    module = nn.Conv2d(inputs, outputs, options['kernel'], options['stride'], padding,
                       options['dilation'], groups, options['bias'])
    return module, (outputs, *size)


def _pool(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    channels = _planes(shape, 'pooling')[0]
    stride = options['kernel'] if options['stride'] == 'kernel' else options['stride']
    kind = nn.MaxPool2d if options['kind'] == 'max' else nn.AvgPool2d
    padding, size = _slide(shape, {**options, 'stride': stride}, options['ceil'])
    if any(2 * pad > kernel for pad, kernel in zip(padding, options['kernel'])):
        raise ArchitectureError(
            f'got padding {shape_text(padding)}, pooling takes at most half its kernel '
            f'({shape_text(kernel // 2 for kernel in options["kernel"])})')
    module = kind(options['kernel'], stride, padding, ceil_mode=options['ceil'])
    return module, (channels, *size)


def _batchnorm(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    return kind(shape[0]), shape


def _lrn(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    _planes(shape, 'local response normalisation')
    size = options['size']
    # The paper multiplies the sum over the channels by alpha, PyTorch the mean.
    module = nn.LocalResponseNorm(size, alpha=1e-4 * size, beta=0.75, k=2.0)
    return module, shape


def _flatten(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    return nn.Flatten(), (math.prod(shape),)


def _linear(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    if len(shape) != 1:
        raise ArchitectureError(
            f'got shape {shape_text(shape)}, a fully-connected layer needs a flat vector: put '
            'flatten or global_average_pool before it')
    features = options['features']
    return nn.Linear(shape[0], features, options['bias']), (features,)


def _channel_dropout(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    _planes(shape, 'channel dropout')
    return nn.Dropout2d(options['p']), shape


def _residual(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    channels, height, width = _planes(shape, 'a residual block')
    stride, outputs = options['stride'], options['channels']
    outputs = channels if outputs == 'same' else outputs
    module = Residual(channels, outputs, stride, options['bottleneck'], options['batchnorm'],
                      options['activation'])
    return module, (outputs, -(-height // stride), -(-width // stride))


def _inception(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    channels, height, width = _planes(shape, 'an inception block')
    one, pool = (options[key] or None for key in ('1x1', 'pool'))
    three, five = (options[key] or None for key in ('3x3', '5x5'))
    outputs = (one or 0) + (pool or 0) + sum(pair[1] for pair in (three, five) if pair)
    if not outputs:
        raise ArchitectureError('got an inception block without branches: give 1x1, 3x3: '
                                '[reduced, outputs], 5x5: [reduced, outputs] or pool')
    module = Inception(channels, one, three, five, pool, options['batchnorm'],
                       options['activation'])
    return module, (outputs, height, width)


def _global_average_pool(shape: Shape, options: Options) -> tuple[nn.Module, Shape]:
    channels = _planes(shape, 'global average pooling')[0]
    return GlobalAveragePool(), (channels,)


def _same_shape(module: Callable[[], nn.Module]) -> LayerType:
    return LayerType(lambda shape, options: (module(), shape))


LAYER_TYPES: dict[str, LayerType] = {
    'conv': LayerType(_conv, {
        'channels': CHANNELS, 'kernel': SIZE, 'stride': STRIDE, 'padding': PADDING,
        'dilation': STRIDE, 'groups': replace(COUNT, default=1), 'bias': flag(True)}),
    'pool': LayerType(_pool, {
        'kind': choice('max', 'avg', default='max'), 'kernel': replace(SIZE, default=2),
        'stride': POOL_STRIDE, 'padding': PADDING, 'ceil': flag(False)}, value_key='kind'),
    **{name: _same_shape(module) for name, module in ACTIVATIONS.items()},
    'batchnorm': LayerType(_batchnorm, prefix='bn'),
    'local_response_norm': LayerType(
        _lrn, {'size': replace(COUNT, default=5)}, prefix='norm', value_key='size'),
    'dropout': LayerType(lambda shape, options: (nn.Dropout(options['p']), shape),
                         {'p': PROBABILITY}, value_key='p'),
    'channel_dropout': LayerType(_channel_dropout, {'p': PROBABILITY}, value_key='p'),
    'flatten': LayerType(_flatten),
    'linear': LayerType(_linear, {'features': FEATURES, 'bias': flag(True)}, prefix='fc',
                        value_key='features'),
    'residual': LayerType(_residual, {
        'channels': CHANNELS, 'stride': replace(COUNT, default=1), 'bottleneck': flag(False),
        'batchnorm': flag(True), 'activation': ACTIVATION}, value_key='channels'),
    'inception': LayerType(_inception, {
        '1x1': BRANCH, '3x3': REDUCED, '5x5': REDUCED, 'pool': BRANCH,
        'batchnorm': flag(False), 'activation': ACTIVATION}),
    'global_average_pool': LayerType(_global_average_pool),
}
