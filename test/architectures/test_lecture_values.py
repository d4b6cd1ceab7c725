"""Every number about structure that the lecture material states, with its errata."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from cnn_perception.architectures import create, input_shape
from cnn_perception.architectures.arithmetic import Window
from cnn_perception.architectures.layer_table import describe, LayerTable
from cnn_perception.architectures.network import build_network
import pytest
import torch
import torchvision
import yaml

VALUES = yaml.safe_load(
    (Path(__file__).parents[1] / 'data' / 'lecture_values.yaml').read_text(encoding='utf-8'))
NETWORKS: dict[str, Any] = VALUES['architectures']


def _table_of(layers: list[Any], shape: tuple[int, int, int]) -> LayerTable:
    """Describe layers followed by a classifier of two classes."""
    return describe(build_network([*layers, 'flatten', {'linear': 'classes'}], shape, 2))


def _shape(layer: dict[str, Any], channels: int) -> dict[str, Any]:
    return {'conv': {'channels': channels, 'kernel': layer['kernel'], 'stride': layer['stride'],
                     'padding': layer['padding']}}


@pytest.mark.parametrize('case', VALUES['layer_arithmetic'], ids=str)
def test_layer_arithmetic(case: dict[str, Any]) -> None:
    window = Window(case['kernel'], case['stride'], case['padding'], case['padding'])
    assert window.output_size(case['in']) == case['out']
    assert window.fits(case['in']) is case.get('fits', True)


@pytest.mark.parametrize('case', VALUES['layer_arithmetic'], ids=str)
def test_layer_arithmetic_in_the_layer_table(case: dict[str, Any]) -> None:
    row = _table_of([_shape(case, 1)], (1, case['in'], case['in']))['conv1']
    assert row.output_shape == (1, case['out'], case['out'])
    assert row.fits is case.get('fits', True)


@pytest.mark.parametrize('ceil_mode', [False, True])
@pytest.mark.parametrize('padding', [0, 1, 2])
@pytest.mark.parametrize('kernel, stride', [(4, 4), (4, 2), (5, 3), (4, 3), (4, 1), (5, 4)])
def test_layer_arithmetic_is_pytorchs(kernel: int, stride: int, padding: int,
                                      ceil_mode: bool) -> None:
    pool = torch.nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    window = Window(kernel, stride, padding, padding, ceil_mode=ceil_mode)
    for size in range(kernel, 24):
        assert window.output_size(size) == pool(torch.zeros(1, 1, size, size)).shape[-1]


@pytest.mark.parametrize('case', VALUES['layer_cost'], ids=str)
def test_layer_cost(case: dict[str, Any]) -> None:
    if case['layer'] == 'linear':
        layers = ['flatten', {'linear': case['out_features']}, {'linear': 'classes'}]
        row = describe(build_network(layers, (1, 1, case['in_features']), 2))['fc1']
    else:
        row = _table_of([_shape(case, case['out_channels'])], tuple(case['in']))['conv1']
        weights = case['out_channels'] * case['in'][0] * case['kernel'] ** 2
        height, width = row.output_shape[1:]
        assert row.parameters == weights + case['out_channels']
        assert row.multiply_adds == weights * height * width
    stated = {'params': row.parameters, 'macs': row.multiply_adds, 'out': list(row.output_shape)}
    checked = {key: case[key] for key in stated if key in case}
    assert checked
    assert {key: stated[key] for key in checked} == checked


@pytest.mark.parametrize('case', VALUES['receptive_field'], ids=str)
def test_receptive_field_of_stacked_convolutions(case: dict[str, Any]) -> None:
    layers = [{'conv': {'channels': 1, 'kernel': case['kernel']}}] * case['layers']
    table = _table_of(layers, (1, 32, 32))
    assert table[f'conv{case["layers"]}'].receptive_field == (case['field'], case['field'])


def test_local_response_normalisation() -> None:
    """Krizhevsky et al. 2012, 3.3: a / (2 + 1e-4 * sum of squares of 5 channels) ** 0.75."""
    layers = ['local_response_norm', 'flatten', {'linear': 'classes'}]
    norm = build_network(layers, (7, 1, 1), 2).get_submodule('norm1')
    given = torch.tensor([0.0, 0.0, 60.0, 80.0, 0.0, 0.0, 0.0]).view(1, 7, 1, 1)
    found = norm(given).flatten()[2:4]
    torch.testing.assert_close(found, torch.tensor([60.0, 80.0]) / 3.0 ** 0.75)


def test_max_pool() -> None:
    case = VALUES['max_pool_2x2_stride_2']
    network = build_network(['pool', 'flatten', {'linear': 'classes'}], (1, 4, 4), 2)
    pooled = network.get_submodule('pool1')(torch.tensor([[case['in']]], dtype=torch.float32))
    assert pooled.tolist() == [[case['out']]]


@pytest.mark.parametrize('name', NETWORKS)
def test_input_and_parameters(name: str) -> None:
    stated = NETWORKS[name]
    assert input_shape(name) == tuple(stated['in'])
    if 'params' in stated:
        assert describe(name).parameters == stated['params']


@pytest.mark.parametrize('name', ['linear', 'two_layer', 'lenet5', 'lenet5_relu'])
def test_flattened(name: str) -> None:
    flattened = NETWORKS[name].get('flattened', 2450)
    assert describe(name)['flatten'].output_shape == (flattened,)


def test_linear_and_two_layer_are_what_their_formulas_say() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 32, 32)
    linear = create('linear')
    weight, bias = linear.parameters()
    torch.testing.assert_close(linear(image), image.flatten(1) @ weight.T + bias)
    two = create('two_layer')
    first, first_bias, second, second_bias = two.parameters()
    hidden = torch.clamp(image.flatten(1) @ first.T + first_bias, min=0)
    torch.testing.assert_close(two(image), hidden @ second.T + second_bias)


def test_lenet5_layers() -> None:
    kinds = {'Conv2d': 'conv', 'Tanh': 'tanh', 'MaxPool2d': 'maxpool', 'Linear': 'fc'}
    told = []
    for row in describe('lenet5').rows:
        if row.kind == 'Flatten':
            continue
        word = kinds[row.kind]
        if word == 'conv':
            word += f' {row.output_shape[0]} {row.kernel[0]}x{row.kernel[1]}'
            assert row.padding == ((0, 0), (0, 0))
        elif word == 'maxpool':
            assert row.kernel == row.stride
            word += f' {row.kernel[0]}'
        elif word == 'fc':
            word += f' {row.output_shape[0]}'
        told.append(word)
    assert told == NETWORKS['lenet5']['layers']


def test_lenet5_relu_shapes() -> None:
    told = [[row.name, list(row.output_shape)] for row in describe('lenet5_relu').rows]
    assert told == NETWORKS['lenet5_relu']['shapes']


@pytest.mark.parametrize('layer', NETWORKS['alexnet_2012']['layers'], ids=lambda one: one['name'])
def test_alexnet_2012_layers(layer: dict[str, Any]) -> None:
    row = describe('alexnet_2012')[layer['name']]
    assert row.output_shape == tuple(layer['out'])
    assert row.parameters == layer['params']
    if 'kernel' in layer:
        assert (row.kernel, row.stride) == ((layer['kernel'],) * 2, (layer['stride'],) * 2)
        assert row.padding == ((layer['padding'],) * 2,) * 2
    else:
        assert create('alexnet_2012').get_submodule(
            layer['name']).in_features == layer['in_features']


def test_alexnet_2012_normalises_as_the_paper_says() -> None:
    # b = a / (2 + 1e-4 * (sum of the squares of five neighbouring channels)) ** 0.75
    torch.manual_seed(0)
    activation = 30 * torch.rand(1, 7, 1, 1, dtype=torch.float64)
    norm = create('alexnet_2012').get_submodule('norm1')
    values = activation.flatten().tolist()
    expected = [
        value / (2 + 1e-4 * math.fsum(near ** 2 for near in values[max(0, at - 2):at + 3])) ** 0.75
        for at, value in enumerate(values)]
    assert norm(activation).flatten().tolist() == pytest.approx(expected)


def test_vgg16_parameters_and_the_erratum() -> None:
    stated = NETWORKS['vgg16']
    table = describe('vgg16')
    by_kind = {kind: [row.parameters for row in table.rows if row.kind == kind]
               for kind in ('Conv2d', 'Linear', 'MaxPool2d')}
    assert by_kind['Conv2d'] == stated['conv_params']
    assert by_kind['Linear'] == stated['fc_params']
    assert set(by_kind['MaxPool2d']) == {0}
    assert table.parameters + 65664 == 138423208
    assert '138423208' in stated['errata']


def test_resnet18_parameters_and_the_erratum() -> None:
    stated = NETWORKS['resnet18']
    table = describe('resnet18')
    assert table['fc'].parameters == stated['fc_params']
    plain = [row for row in table.rows if row.kind == 'Conv2d' and 'downsample' not in row.name]
    without = sum(row.parameters + row.output_shape[0] for row in plain)
    assert without + stated['fc_params'] == 11511784
    assert '11511784' in stated['errata']


def test_googlenet_stages_and_parameters() -> None:
    table = describe('googlenet', depth=1)
    for name, shape in NETWORKS['googlenet']['stage_shapes']:
        assert table[name].output_shape == tuple(shape), name
    meta = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1.meta
    assert table.parameters == meta['num_params']
