"""Names, wildcards, near matches, and what every network of the catalogue has in common."""

from __future__ import annotations

import re

from cnn_perception import architectures
from cnn_perception.architectures import ArchitectureError, create, input_shape, names, source
from cnn_perception.architectures.skeleton import skeleton
import pytest
import torch
from torch import nn
import torchvision

LECTURES = ['alexnet_2012', 'efficientnet_lite0', 'lenet5', 'lenet5_relu', 'linear', 'two_layer']
TORCHVISION = torchvision.models.list_models(module=torchvision.models)
# The first of each family, as the members of one are built by the same code.
FAMILIES = sorted({re.match('[a-z]+', name).group(): name  # type: ignore[union-attr]
                   for name in sorted(TORCHVISION, reverse=True)}.values())


def test_everything_is_listed_once() -> None:
    listed = names()
    assert listed == sorted(set(listed))
    assert set(listed) == {*LECTURES, *TORCHVISION}
    for other in ('fcn_resnet50', 'fasterrcnn_resnet50_fpn', 'quantized_resnet18', 'r3d_18',
                  'raft_small'):
        assert other in torchvision.models.list_models()
        assert other not in listed


def test_every_network_the_lectures_name() -> None:
    named = {'linear', 'two_layer', 'lenet5', 'lenet5_relu', 'alexnet_2012', 'vgg16', 'googlenet',
             'resnet18', 'resnet50', 'resnet152'}
    assert named <= set(names())


@pytest.mark.parametrize('pattern, expected', [
    ('lenet*', ['lenet5', 'lenet5_relu']),
    ('vgg1?', ['vgg11', 'vgg13', 'vgg16', 'vgg19']),
    ('resnet[15]*', ['resnet101', 'resnet152', 'resnet18', 'resnet50']),
    ('nothing*', []),
])
def test_wildcards(pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected


def test_timm_is_listed_only_when_asked_for() -> None:
    assert not [name for name in names() if name.startswith('timm/')]
    assert 'timm/convnext_tiny' in names('timm/convnext*')
    # The weights of one network, where the pattern has the dot before them.
    assert 'timm/resnet18.a1_in1k' in names('timm/resnet18.*')
    assert 'timm/resnet18.a1_in1k' not in names('timm/resnet18*')


@pytest.mark.parametrize('name, expected', [
    ('lenet5', 'own'), ('efficientnet_lite0', 'own'), ('resnet18', 'torchvision'),
    ('timm/resnet18', 'timm'), ('timm/resnet18.a1_in1k', 'timm'),
    ('any/where.yaml', 'yaml'), ('NET.YML', 'yaml')])
def test_source(name: str, expected: str) -> None:
    assert source(name) == expected


@pytest.mark.parametrize('name, expected', [
    ('resnet18', 'resnet18'), ('timm/resnet18', 'timm/resnet18'), ('any/where.yaml', 'where'),
    ('NET.v2.YML', 'NET.v2')])
def test_short_name(name: str, expected: str) -> None:
    assert architectures.short_name(name) == expected


@pytest.mark.parametrize('name, near', [
    ('ResNet-18', 'resnet18'), ('lenet', 'lenet5'), ('mobilenetv3small', 'mobilenet_v3_small'),
    ('timm/convnexttiny', 'timm/convnext_tiny'),
    ('timm/resnet18.tv', 'timm/resnet18.tv_in1k')])
def test_unknown_names_answer_with_near_ones(name: str, near: str) -> None:
    with pytest.raises(ArchitectureError) as raised:
        create(name)
    assert f'Did you mean {near}' in str(raised.value)
    assert 'describe --list' in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_a_name_like_nothing_says_how_to_list() -> None:
    with pytest.raises(ArchitectureError, match=r"unknown architecture '#'\. List them"):
        create('#')


@pytest.mark.parametrize('name', ['lenet5', 'resnet18'])
def test_a_name_is_registered_once(name: str) -> None:
    with pytest.raises(ArchitectureError, match='registered already'):
        architectures.register(name, (1, 8, 8), 2)(lambda classes, variation: nn.Identity())


@pytest.mark.parametrize('name', [*LECTURES, *FAMILIES])
def test_networks_take_any_number_of_classes(name: str) -> None:
    module = skeleton(create, name, num_classes=7).eval()
    image = torch.empty(1, *input_shape(name, module), device='meta')
    assert module.to('meta')(image).shape == (1, 7)


@pytest.mark.parametrize('name, classes', [
    ('lenet5', 10), ('alexnet_2012', 1000), ('resnet18', 1000), ('timm/resnet18', 1000)])
def test_its_own_number_of_classes(name: str, classes: int) -> None:
    module = skeleton(create, name).eval()
    assert module(torch.empty(2, *input_shape(name), device='meta')).shape == (2, classes)


@pytest.mark.parametrize('classes', [0, -1, 2.0, '10', True])
def test_classes_that_mean_nothing(classes: object) -> None:
    with pytest.raises(ArchitectureError, match='num_classes: got'):
        create('lenet5', num_classes=classes)  # type: ignore[arg-type]


@pytest.mark.parametrize('name', ['resnet18', 'mobilenet_v2', 'timm/efficientnet_b0'])
def test_activations_work_out_of_place(name: str) -> None:
    module = skeleton(create, name)
    assert not [part for part in module.modules() if getattr(part, 'inplace', False)]


@pytest.mark.parametrize('name, shape', [
    ('lenet5', (1, 32, 32)), ('lenet5_relu', (1, 28, 28)), ('alexnet_2012', (3, 227, 227)),
    ('resnet18', (3, 224, 224)), ('inception_v3', (3, 299, 299)),
    ('efficientnet_b7', (3, 600, 600)), ('vit_h_14', (3, 224, 224)),
    ('efficientnet_lite0', (3, 224, 224)), ('timm/inception_v3', (3, 299, 299))])
def test_input_shape(name: str, shape: tuple[int, int, int]) -> None:
    assert input_shape(name) == shape


def test_untrained_networks_compute() -> None:
    torch.manual_seed(0)
    for name in ('lenet5', 'efficientnet_lite0', 'googlenet'):
        module = create(name).eval()
        with torch.no_grad():
            scores = module(torch.rand(1, *input_shape(name)))
        assert torch.isfinite(scores).all()
        assert scores.std() > 0


def test_options_are_for_own_networks() -> None:
    options = architectures.Variation(batchnorm=True)
    for name in ('resnet18', 'efficientnet_lite0', 'timm/resnet18'):
        with pytest.raises(ArchitectureError, match='options apply to the lecture networks'):
            create(name, variation=options)
