"""
The layer types that a network can be written with: their keys, their shapes, their modules.

A layer is a mapping with `type`, optionally `name`, and the keys below; `LAYER_TYPES` is the only
table of them, read by the builder, the YAML reader and their error messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from torch import nn

from .arithmetic import Window
from .blocks import ACTIVATIONS, Inception, Residual
from .errors import ArchitectureError, shape_text, shown

__all__ = ['CLASSES', 'Key', 'LAYER_TYPES', 'LayerType', 'Shape']

Shape = tuple[int, ...]
Options = Mapping[str, Any]

CLASSES = 'classes'
_REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key of a layer: the check its value passes, that check in words, and the default."""

    check: Callable[[Any], Any]
    expected: str
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """Whether a layer has to give this key."""
        return self.default is _REQUIRED

    def read(self, value: Any) -> Any:
        """Return the value in its normal form, or raise ArchitectureError with the expectation."""
        read = self.check(value)
        if read is None:
            raise ArchitectureError(f'got {shown(value)}, expected {self.expected}')
        return read


@dataclass(frozen=True)
class LayerType:
    """
    One layer type.

    build takes the input shape (C, H, W) or (F,) and the read keys, and returns the module and
    its output shape. prefix begins the names of unnamed layers; value_key is the key that a bare
    value stands for, as in `dropout: 0.5`.
    """

    build: Callable[[Shape, Options], tuple[nn.Module, Shape]]
    keys: Mapping[str, Key] = field(default_factory=dict)
    prefix: str = ''
    value_key: str | None = None


def _integer(least: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        return value if type(value) is int and value >= least else None
    return check


def _pair(least: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
        good = len(pair) == 2 and all(type(size) is int and size >= least for size in pair)
        return tuple(pair) if good else None
    return check


def _one_of(*choices: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        return value if any(value is choice or (type(value) is str and value == choice)
                            for choice in choices) else None
    return check


def _or(word: str, check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: value if value == word and isinstance(value, str) else check(value)


def _probability(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 1 else None


COUNT = Key(_integer(1), 'a whole number of at least 1')
_SIZE = Key(_pair(1), 'a whole number of at least 1, or [height, width]')
_STRIDE = Key(_SIZE.check, _SIZE.expected, 1)
_DROPPED = Key(_probability, 'a probability of at least 0 and below 1', 0.5)
_ACTIVATION = Key(_one_of(*ACTIVATIONS), f'one of {", ".join(ACTIVATIONS)}', 'relu')


def _flag(default: bool) -> Key:
    return Key(_one_of(True, False), 'true or false', default)


def _planes(shape: Shape, layer: str) -> Shape:
    if len(shape) != 3:
        raise ArchitectureError(
            f'got shape {shape_text(shape)}, {layer} needs channels x height x width: '
            'put it before flatten and global_average_pool')
    return shape


def _slide(shape: Shape, options: Options, ceil_mode: bool = False) -> tuple[Shape, Shape]:
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
    output = tuple(window.output_size(size) for window, size in zip(windows, shape[1:]))
    if 0 in output:
        largest = [(window.padded(size) - 1) // window.dilation + 1
                   for window, size in zip(windows, shape[1:])]
        needed = max((window.extent - size + 1) // 2 for window, size in zip(windows, shape[1:]))
        raise ArchitectureError(
            f'got shape {shape_text(shape)}, where a kernel of {shape_text(kernel)} with padding '
            f'{shape_text(padding)} has no room: a kernel up to {shape_text(largest)} would fit, '
            f'or a padding of at least {needed}, or fewer pooling layers before it')
    return padding, output


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
    features = 1
    for size in shape:
        features *= size
    return nn.Flatten(), (features,)


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
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (channels,)


def _same_shape(module: Callable[[], nn.Module]) -> LayerType:
    return LayerType(lambda shape, options: (module(), shape))


_CHANNELS = Key(_or('same', COUNT.check), f'{COUNT.expected}, or same')
_PADDING = Key(_or('same', _pair(0)), 'a whole number of at least 0, [height, width], or same', 0)
_BRANCH = Key(_integer(0), 'a whole number of channels', 0)
_PAIR = Key(lambda value: _pair(1)(value) if isinstance(value, (list, tuple)) else None,
            'two channel counts, [reduced, outputs]', ())

LAYER_TYPES: dict[str, LayerType] = {
    'conv': LayerType(_conv, {
        'channels': _CHANNELS, 'kernel': _SIZE, 'stride': _STRIDE, 'padding': _PADDING,
        'dilation': _STRIDE, 'groups': Key(COUNT.check, COUNT.expected, 1), 'bias': _flag(True)}),
    'pool': LayerType(_pool, {
        'kind': Key(_one_of('max', 'avg'), 'max or avg', 'max'),
        'kernel': Key(_SIZE.check, _SIZE.expected, 2),
        'stride': Key(_or('kernel', _SIZE.check), f'{_SIZE.expected}, or kernel', 'kernel'),
        'padding': _PADDING, 'ceil': _flag(False)}, value_key='kind'),
    **{name: _same_shape(module) for name, module in ACTIVATIONS.items()},
    'batchnorm': LayerType(_batchnorm, prefix='bn'),
    'local_response_norm': LayerType(
        _lrn, {'size': Key(COUNT.check, COUNT.expected, 5)}, prefix='norm', value_key='size'),
    'dropout': LayerType(lambda shape, options: (nn.Dropout(options['p']), shape),
                         {'p': _DROPPED}, value_key='p'),
    'channel_dropout': LayerType(_channel_dropout, {'p': _DROPPED}, value_key='p'),
    'flatten': LayerType(_flatten),
    'linear': LayerType(_linear, {
        'features': Key(_or(CLASSES, COUNT.check), f'{COUNT.expected}, or {CLASSES}'),
        'bias': _flag(True)}, prefix='fc', value_key='features'),
    'residual': LayerType(_residual, {
        'channels': _CHANNELS, 'stride': Key(COUNT.check, COUNT.expected, 1),
        'bottleneck': _flag(False), 'batchnorm': _flag(True), 'activation': _ACTIVATION},
        value_key='channels'),
    'inception': LayerType(_inception, {
        '1x1': _BRANCH, '3x3': _PAIR, '5x5': _PAIR, 'pool': _BRANCH,
        'batchnorm': _flag(False), 'activation': _ACTIVATION}),
    'global_average_pool': LayerType(_global_average_pool),
}
