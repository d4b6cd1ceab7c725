"""Convolutions fused with what follows them: the same answers, and only where it is allowed."""

import copy
import logging
from types import SimpleNamespace
import weakref

from cnn_perception import architectures
from cnn_perception.backends import cuda_variants
from cnn_perception.backends.cuda_variants import copied, fastest, variants
from cnn_perception.backends.folding import folded
from cnn_perception.backends.fusing import (
    fused, FusedConvolution, multiplied, PointwiseConvolution)
from cnn_perception.backends.half import half_module
from cnn_perception.backends.tapping import TappedNetwork
import pytest
import torch
from torch import nn
import torch.nn.functional as functional


@pytest.fixture
def cudnn(monkeypatch):
    """Compute on the CPU, in several steps, what cuDNN computes in one kernel."""
    # A map of another shape cuDNN would not broadcast: it would read what lies behind it.
    def cut(maps, weight, bias, *shape):
        return functional.relu(functional.conv2d(maps, weight, bias, *shape))

    def added_and_cut(maps, weight, added, factor, bias, *shape):
        made = functional.conv2d(maps, weight, bias, *shape)
        assert added.shape == made.shape
        return functional.relu(made + factor * added)
    monkeypatch.setattr(torch, 'cudnn_convolution_relu', cut)
    monkeypatch.setattr(torch, 'cudnn_convolution_add_relu', added_and_cut)


def untapped(module):
    network = folded(module.eval())
    return TappedNetwork(module.eval()).derive(()) if network is None else network


def counts(network):
    return tuple(sum(isinstance(part, kind) for part in network.modules())
                 for kind in (FusedConvolution, PointwiseConvolution, nn.Conv2d))


@pytest.mark.parametrize(('architecture', 'expected'), [
    ('resnet18', [(17, 0, 3)]),
    ('resnet50', [(49, 4, 0), (49, 0, 4), (0, 33, 20)]),
    ('vgg11', [(8, 0, 0)]),
    ('efficientnet_lite0', [(0, 32, 17)]),
    ('timm/resnet18', [(17, 0, 3)]),
    ('lenet5', [])])
def test_variants_answer_alike_and_share_their_weights(cudnn, architecture, expected):
    torch.manual_seed(0)
    module = architectures.create(architecture).eval()
    network = untapped(copy.deepcopy(module))
    batch = torch.rand(2, *architectures.input_shape(architecture))
    own = {values.data_ptr() for values in network.parameters() if values.dim() > 1}
    found = []
    with torch.inference_mode():
        right = module(batch)
        for variant in variants(network, fuse=True):
            found.append(counts(variant))
            logits, taps = variant(batch)
            assert taps == {}
            torch.testing.assert_close(logits, right, rtol=1e-4,
                                       atol=1e-5 * float(right.abs().max()))
            assert {values.data_ptr() for values in variant.parameters()
                    if values.dim() > 1} == own
    assert found == expected


def test_without_fusing_only_products_are_tried():
    network = untapped(architectures.create('resnet50'))
    assert [counts(variant) for variant in variants(network, fuse=False)] == [
        (0, 33, 20)]


class Block(nn.Module):
    """A convolution, perhaps an addition, and a rectifier, put together as told."""

    def __init__(self, layer, forward):
        super().__init__()
        self.layer, self.relu = layer, nn.ReLU()
        self._forward = forward

    def forward(self, maps):
        return self._forward(self, maps)


def plain_layer(**options):
    return nn.Conv2d(4, 4, 3, **{'padding': 1, **options})


class Doubled(nn.Conv2d):
    def forward(self, maps):
        return 2 * super().forward(maps)


@pytest.mark.parametrize(('layer', 'forward', 'count'), [
    (plain_layer(), lambda block, maps: block.relu(block.layer(maps)), 1),
    (plain_layer(bias=False, stride=2), lambda block, maps: block.layer(maps).relu(), 1),
    (plain_layer(), lambda block, maps: torch.relu(block.layer(maps) + maps), 1),
    (plain_layer(), lambda block, maps: functional.relu(maps + block.layer(maps)), 1),
    (plain_layer(), lambda block, maps: torch.relu(torch.add(maps, block.layer(maps))), 1),
    # What else reads a map would not find it any more.
    (plain_layer(), lambda block, maps: (lambda made: block.relu(made) + made)(
        block.layer(maps)), 0),
    (plain_layer(), lambda block, maps: (lambda made: block.relu(made + maps) + made)(
        block.layer(maps)), 0),
    (plain_layer(), lambda block, maps: (lambda made: block.relu(made + made))(
        block.layer(maps)), 0),
    (plain_layer(), lambda block, maps: block.relu(block.layer(block.relu(
        block.layer(maps)))), 0),
    (plain_layer(), lambda block, maps: torch.relu(torch.add(
        block.layer(maps), maps, alpha=2)), 0),
    (plain_layer(), lambda block, maps: torch.relu(block.layer(maps) + 1), 0),
    (plain_layer(), lambda block, maps: block.relu(block.layer(input=maps)), 0),
    (plain_layer(), lambda block, maps: functional.relu6(block.layer(maps)), 0),
    (plain_layer(groups=4), lambda block, maps: block.relu(block.layer(maps)), 0),
    (plain_layer(padding_mode='reflect'), lambda block, maps: block.relu(block.layer(maps)), 0),
    (plain_layer(padding='same'), lambda block, maps: block.relu(block.layer(maps)), 0),
    (Doubled(4, 4, 3, padding=1), lambda block, maps: block.relu(block.layer(maps)), 0)])
def test_only_what_stays_the_same_is_fused(cudnn, layer, forward, count):
    module = Block(layer, forward).eval()
    maps = torch.randn(2, 4, 8, 8)
    network = copied(TappedNetwork(module).derive(()))
    with torch.inference_mode():
        right = module(maps)
        assert fused(network) == count
        torch.testing.assert_close(network(maps)[0], right)


@pytest.mark.parametrize('shape', [(1, 4, 8, 8), (2, 4, 1, 1), (2, 1, 8, 8)])
@pytest.mark.parametrize('options', [{}, {'stride': 2, 'padding': 3}, {'dilation': 2}])
def test_maps_of_another_shape_are_not_added(cudnn, shape, options):
    layer = FusedConvolution(plain_layer(**options).eval())
    maps = torch.randn(2, 4, 8, 8)
    with torch.inference_mode():
        made = layer(maps)
        torch.testing.assert_close(layer(maps, made), functional.relu(
            functional.conv2d(maps, layer.weight, layer.bias, *layer._shape) + made))
        if shape != made.shape:
            with pytest.raises(RuntimeError, match='expected the same shape'):
                layer(maps, torch.randn(shape))


@pytest.mark.parametrize(('options', 'count'), [
    ({'kernel_size': 1}, 1), ({'kernel_size': 1, 'stride': 2}, 0),
    ({'kernel_size': 1, 'padding': 1}, 0), ({'kernel_size': 3}, 0),
    ({'kernel_size': 1, 'groups': 2}, 0), ({'kernel_size': 1, 'bias': False}, 0)])
def test_convolutions_of_one_pixel_become_products(options, count):
    module = nn.Sequential(nn.Conv2d(4, 6, **options)).eval()
    network = copied(TappedNetwork(module).derive(()))
    assert multiplied(network) == count
    for format_ in (torch.contiguous_format, torch.channels_last):
        maps = torch.randn(2, 4, 5, 7).contiguous(memory_format=format_)
        with torch.inference_mode():
            torch.testing.assert_close(network(maps)[0], module(maps))


class Shifted(nn.Module):
    """Answers with what a batch holds, moved and put in order; or not at all."""

    def __init__(self, by, problem=None):
        super().__init__()
        self.by, self.problem = by, problem

    def forward(self, batch):
        if self.problem is not None:
            raise self.problem
        return batch.flatten(1) + self.by, {}


@pytest.fixture
def timed(monkeypatch):
    """Choose among networks by times that are given; returns the one that is taken."""
    def choose(*networks_and_times):
        networks, times = zip(*networks_and_times)
        tried = []

        def record(network):
            tried.append(networks.index(network))
            if times[networks.index(network)] is None:
                raise RuntimeError('CUDA out of memory')
            return SimpleNamespace(network=network)
        monkeypatch.setattr(cuda_variants, 'seconds',
                            lambda made, stream: times[networks.index(made.network)])
        found = fastest(networks, torch.ones(cuda_variants.PICTURES, 3, 1, 1), 'float32', record,
                        None)
        assert found.recorded.network is found.network
        return networks.index(found.network), tried
    return choose


def test_the_fastest_of_two_that_are_right_is_taken(timed):
    assert timed((Shifted(0), 3.0), (Shifted(0), 1.0), (Shifted(0), 0.5)) == (1, [0, 1])
    assert timed((Shifted(1e-2), 1.0), (Shifted(float('nan')), 1.0), (Shifted(1e-5), 2.0),
                 (Shifted(0), 3.0)) == (2, [2, 3])
    # Of two that take for ever, as none could be recorded, the later is changed less.
    assert timed((Shifted(0), float('inf')), (Shifted(0), float('inf'))) == (1, [0, 1])
    # There may be memory for the recording of one of them and no more.
    assert timed((Shifted(0), 2.0), (Shifted(0), None)) == (0, [0, 1])
    assert timed((Shifted(0), None), (Shifted(0), 2.0)) == (1, [0, 1])
    with pytest.raises(RuntimeError, match='out of memory'):
        timed((Shifted(0), None), (Shifted(0), None))


@pytest.mark.parametrize('problem', [
    RuntimeError('unable to find an engine'), TypeError('an int'), AssertionError('no argument')])
def test_networks_that_do_not_run_are_passed_over(timed, problem, caplog):
    caplog.set_level(logging.INFO, 'cnn_perception')
    assert timed((Shifted(0, problem), 1.0), (Shifted(0), 2.0)) == (1, [1])
    assert str(problem) in caplog.text
    with pytest.raises(type(problem), match=str(problem)):
        timed((Shifted(0), 1.0), (Shifted(0, problem), 2.0))


class ForOne(nn.Module):
    """A network that runs with one picture only, and keeps an eye on what it has for others."""

    def __init__(self):
        super().__init__()
        self.held = None

    def forward(self, batch):
        activation = batch + 1.0
        if len(batch) > 1:
            self.held = weakref.ref(activation)
        assert len(batch) == 1, 'one picture at a time'
        # What was there for more is let go of before: it may have taken all the memory.
        assert self.held is None or self.held() is None
        return batch.reshape(1, 3), {}


def test_a_network_written_for_one_picture_is_compared_on_one(timed):
    assert timed((Shifted(1.0), 1.0), (ForOne(), 2.0), (ForOne(), 3.0)) == (1, [1, 2])


@pytest.mark.parametrize('mask', [-1e9, float('-inf')])
def test_masked_classes_do_not_hide_what_is_wrong(timed, mask):
    masks = torch.tensor([0.0, mask, 0.0])
    assert timed((Shifted(1.0 + masks), 1.0), (Shifted(-masks), 1.0), (Shifted(0.0), 1.0),
                 (Shifted(1e-5 + masks), 1.0), (Shifted(masks), 2.0)) == (3, [3, 4])


def test_large_logits_are_no_masks(timed):
    large = torch.tensor([5e4, 2e4, 3e4])
    assert timed((Shifted(large.flip(0)), 1.0), (Shifted(large * 1.0001), 1.0),
                 (Shifted(large), 2.0)) == (1, [1, 2])


def test_what_cannot_be_recorded_is_not_the_fastest():
    assert cuda_variants.seconds(SimpleNamespace(failure='no'), None) == float('inf')


@pytest.mark.gpu
@pytest.mark.parametrize('architecture', ['resnet18', 'googlenet', 'efficientnet_lite0', 'vgg11'])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_a_gpu_computes_the_same_maps(architecture, dtype):
    torch.manual_seed(0)
    network = half_module(untapped(architectures.create(architecture)), dtype).to(
        'cuda', memory_format=torch.channels_last)
    assert [*variants(network, fuse=True)]
    pictures = torch.randn(2, *architectures.input_shape(architecture))
    # Of some random networks almost all of an answer is the last bias: what black pictures give.
    batch = torch.cat([pictures, torch.zeros_like(pictures)]).to(
        'cuda', dtype, memory_format=torch.channels_last)

    def seen(logits):
        return logits[:2].float() - logits[2:].float()

    with torch.inference_mode():
        plain = seen(network(batch)[0])
        for variant in variants(network, fuse=True):
            error = float((seen(variant(batch)[0]) - plain).abs().max() / plain.std())
            assert error < (0.05 if dtype == torch.float16 else 0.3)
