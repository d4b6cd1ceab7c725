"""The options of own networks: 1x1, strided convolutions, batch normalisation, channel dropout."""

from __future__ import annotations

from cnn_perception.architectures import (
    ArchitectureError, create, input_shape, names, source, Variation)
from cnn_perception.architectures.layer_table import describe
from cnn_perception.architectures.variation import vary
import pytest
import torch

OWN = [name for name in names() if source(name) == 'own']
VARIATIONS = [
    Variation(batchnorm=True), Variation(downsampling='strided_conv'),
    Variation(channel_dropout=0.25), Variation(conv_1x1=True),
    Variation(True, 'strided_conv', 0.1, True)]


@pytest.mark.parametrize('variation', VARIATIONS, ids=str)
@pytest.mark.parametrize('name', [
    name for name in OWN if name not in ('alexnet_2012', 'efficientnet_lite0')])
def test_every_own_network_takes_every_option(name: str, variation: Variation) -> None:
    network = create(name, num_classes=5, variation=variation).train()
    scores = network(torch.rand(2, *input_shape(name)))
    assert scores.shape == (2, 5)
    scores.sum().backward()


def _kinds(name: str, variation: Variation) -> list[str]:
    return [type(part).__name__ for part in create(name, variation=variation)]


def test_nothing_changes_by_default() -> None:
    assert _kinds('lenet5_relu', Variation()) == [
        'Conv2d', 'ReLU', 'MaxPool2d', 'Conv2d', 'ReLU', 'MaxPool2d', 'Flatten', 'Linear', 'ReLU',
        'Linear']


@pytest.mark.parametrize('variation, first_block', [
    (Variation(batchnorm=True), ['Conv2d', 'BatchNorm2d', 'ReLU', 'MaxPool2d']),
    (Variation(downsampling='strided_conv'), ['Conv2d', 'ReLU', 'Conv2d', 'ReLU']),
    (Variation(channel_dropout=0.5), ['Conv2d', 'ReLU', 'Dropout2d', 'MaxPool2d']),
    (Variation(conv_1x1=True), ['Conv2d', 'ReLU', 'Conv2d', 'ReLU', 'MaxPool2d']),
])
def test_what_an_option_adds(variation: Variation, first_block: list[str]) -> None:
    assert _kinds('lenet5_relu', variation)[:len(first_block)] == first_block


def test_strided_convolutions_shrink_as_the_pooling_did() -> None:
    plain = describe('alexnet_2012')
    network = create('alexnet_2012', variation=Variation(downsampling='strided_conv'))
    strided = describe(network)
    assert 'MaxPool2d' not in {row.kind for row in strided.rows}
    pool, conv = plain['pool5'], strided['pool5']
    assert conv.kind == 'Conv2d'
    assert (conv.kernel, conv.stride, conv.output_shape, conv.receptive_field) == (
        pool.kernel, pool.stride, pool.output_shape, pool.receptive_field)
    assert conv.parameters == 256 * 256 * 9 + 256


def test_normalised_convolutions_have_no_bias() -> None:
    network = create('lenet5', variation=Variation(batchnorm=True, conv_1x1=True))
    convolutions = [part for part in network if isinstance(part, torch.nn.Conv2d)]
    assert [part.kernel_size for part in convolutions] == [(5, 5), (1, 1), (5, 5), (1, 1)]
    assert all(part.bias is None for part in convolutions)


def test_layers_keep_their_names() -> None:
    everything = VARIATIONS[-1]
    plain = [name for name, part in create('lenet5').named_children()]
    varied = [name for name, part in create('lenet5', variation=everything).named_children()]
    assert set(plain) < set(varied)
    assert varied[:12] == [
        'conv1', 'conv1_bn', 'tanh1', 'conv1_1x1', 'conv1_1x1_bn', 'conv1_1x1_tanh',
        'conv1_channel_dropout', 'pool1', 'pool1_bn', 'pool1_tanh', 'pool1_1x1', 'pool1_1x1_bn']


def test_what_is_there_already_is_not_added_again() -> None:
    layers = [{'conv': {'channels': 2, 'kernel': 1}}, 'batchnorm', 'relu']
    varied = vary(layers, Variation(batchnorm=True, conv_1x1=True))
    assert [layer['type'] for layer in varied] == ['conv', 'batchnorm', 'relu']


@pytest.mark.parametrize('between', ['global_average_pool', 'pool', 'residual'])
def test_activations_behind_something_else_are_not_the_convolutions(between: str) -> None:
    layers = [{'conv': {'channels': 2, 'kernel': 3}}, 'batchnorm', between, 'relu']
    varied = vary(layers, Variation(channel_dropout=0.5, conv_1x1=True))
    assert [layer['type'] for layer in varied] == ['conv', 'batchnorm', between, 'relu']


@pytest.mark.parametrize('key, value, told', [
    ('kernl', 3, r"unknown key 'kernl'\. Did you mean kernel"),
    ('ceil', 'yes', "ceil: got 'yes', expected true or false")])
def test_mistakes_in_a_pool_are_told_where_a_convolution_replaces_it(
        key: str, value: object, told: str) -> None:
    pool = {'pool': {'name': 'shrink', key: value}}
    with pytest.raises(ArchitectureError, match=rf'^downsampling: shrink \(pool\): {told}'):
        vary([pool], Variation(downsampling='strided_conv'))


def test_activations_behind_a_flatten_are_no_convolutions() -> None:
    layers = [{'conv': {'channels': 2, 'kernel': 3}}, 'flatten', {'linear': 4}, 'relu',
              {'linear': 'classes'}]
    varied = vary(layers, Variation(channel_dropout=0.5, conv_1x1=True))
    assert [layer['type'] for layer in varied] == ['conv', 'flatten', 'linear', 'relu', 'linear']


def test_no_convolution_stands_for_pooling_that_hangs_over() -> None:
    """Pooling 3/2 makes 15 x 15 of 30 x 30 with ceil, a convolution 14 x 14."""
    pool = {'pool': {'name': 'shrink', 'kernel': 3, 'stride': 2, 'ceil': True}}
    told = r'^downsampling: shrink \(pool\) has ceil: .*: leave ceil out, or give the pool a pad'
    with pytest.raises(ArchitectureError, match=told):
        vary([pool], Variation(downsampling='strided_conv'))
    assert vary([pool], Variation(batchnorm=True))[0]['ceil'] is True
    pool['pool']['ceil'] = False
    [conv, _] = vary([pool], Variation(downsampling='strided_conv'))
    assert (conv['type'], conv['kernel'], conv['stride']) == ('conv', 3, 2)
