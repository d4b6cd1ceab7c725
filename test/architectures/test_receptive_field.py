"""
Receptive fields against a measurement: the gradient of one output pixel.

With positive weights and no other nonlinearity nothing cancels, so that the pixels of the image
with a gradient are exactly those that the output sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import random
from typing import Any

from cnn_perception.architectures import ArchitectureError, create
from cnn_perception.architectures.layer_table import describe, LayerRow
from cnn_perception.architectures.network import build_network, LayeredNetwork
import pytest
import torch
from torch import nn

CONFIG = Path(__file__).parents[2] / 'config' / 'architectures'
_SATURATING = (nn.Tanh, nn.Sigmoid, nn.ReLU6, nn.LocalResponseNorm, nn.Hardswish, nn.Dropout)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Keep the gradients on one core: many small ones wait for each other on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _dense(module: nn.Module) -> nn.Module:
    """Make a network positive and linear: it sees the same pixels, and its gradient shows them."""
    torch.manual_seed(0)
    module = module.double().eval()
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, _SATURATING):
                setattr(part, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                # Of a maximum only one pixel has a gradient; a mean takes it from all of them.
                setattr(part, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding,
                                                 child.ceil_mode))
        if isinstance(part, nn.Conv2d):
            with torch.no_grad():
                fan_in = part.weight[0].numel()
                part.weight.uniform_(0.5 / fan_in, 1.5 / fan_in)
                if part.bias is not None:
                    part.bias.zero_()
    return module


def _measure(module: nn.Module, layer: str, shape: tuple[int, int, int],
             at: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return top, left, height and width of what one output of a layer sees."""
    image = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    kept: list[torch.Tensor] = []
    handle = module.get_submodule(layer).register_forward_hook(
        lambda part, inputs, output: kept.append(output))
    module(image)
    handle.remove()
    kept[-1][0, :, at[0], at[1]].sum().backward()
    assert image.grad is not None
    rows, columns = image.grad[0].sum(dim=0).nonzero().unbind(dim=1)
    top, left = int(rows.min()), int(columns.min())
    return top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1


def _clipped(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, height, width = box
    bottom, right = min(top + height, shape[1]), min(left + width, shape[2])
    top, left = max(top, 0), max(left, 0)
    return top, left, bottom - top, right - left


def _trunk(module: nn.Module) -> nn.Module:
    """Return the layers before rows and columns are given up."""
    parts = []
    for part in module.children():
        if isinstance(part, (nn.Flatten, nn.AdaptiveAvgPool2d)) or (
                type(part).__name__ == 'GlobalAveragePool'):
            break
        parts.append(part)
    return nn.Sequential(*parts)


def _last_run(row: LayerRow, rows: tuple[LayerRow, ...]) -> bool:
    return f'{row.name}_1' not in {other.name for other in rows}


NETWORKS: dict[str, tuple[Any, int]] = {
    'lenet5': ('lenet5', 40), 'lenet5_relu': ('lenet5_relu', 40),
    'alexnet_2012': ('alexnet_2012', 259), 'alexnet': (lambda: create('alexnet').features, 255),
    'vgg11': (lambda: create('vgg11').features, 176), 'resnet18': ('resnet18', 448),
    'googlenet': ('googlenet', 448),
    'lenet.yaml': (str(CONFIG / 'lenet.yaml'), 36),
    'small_resnet.yaml': (str(CONFIG / 'small_resnet.yaml'), 72),
    'small_vgg.yaml': (str(CONFIG / 'small_vgg.yaml'), 56),
}


@pytest.mark.parametrize('case', NETWORKS)
def test_last_map_of_a_network(case: str) -> None:
    build, size = NETWORKS[case]
    network = _trunk(create(build) if isinstance(build, str) else build())
    channels = next(part.in_channels for part in network.modules() if isinstance(part, nn.Conv2d))
    shape = (channels, size, size)
    row = describe(network, shape, depth=1).rows[-1]
    middle = (row.output_shape[1] // 2, row.output_shape[2] // 2)
    box = row.box(*middle)
    assert box == _clipped(box, shape), 'the image is too small to measure in'
    assert _measure(_dense(network), row.name, shape, middle) == box


@pytest.mark.parametrize('name', ['lenet.yaml', 'small_resnet.yaml'])
def test_every_map_of_a_network(name: str) -> None:
    network = _trunk(create(str(CONFIG / name)))
    shape = (1 if name == 'lenet.yaml' else 3, 64, 80)
    rows = describe(network, shape).rows
    dense = _dense(network)
    for row in rows:
        if row.kind == 'Tanh' or not _last_run(row, rows):
            continue
        middle = (row.output_shape[1] // 2, row.output_shape[2] // 2)
        assert _measure(dense, row.name, shape, middle) == row.box(*middle), row.name


def _random_layers(seed: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    layers: list[dict[str, Any]] = []
    for _ in range(chance.randint(2, 5)):
        kernel = [chance.randint(1, 4), chance.randint(1, 4)]
        layer = {'kernel': kernel, 'stride': [chance.randint(1, 2), chance.randint(1, 2)],
                 'padding': [chance.randint(0, size // 2) for size in kernel]}
        if chance.random() < 0.4:
            layers.append({'pool': {**layer, 'ceil': chance.random() < 0.5}})
        else:
            layers.append({'conv': {**layer, 'channels': 2, 'dilation': chance.randint(1, 3)}})
    layers.insert(1, chance.choice(['batchnorm', {'residual': {'channels': 3, 'stride': 2}}, {
        'inception': {'1x1': 1, '3x3': [1, 1], '5x5': [1, 1], 'pool': 1}}]))
    return layers


@pytest.mark.parametrize('seed', range(16))
def test_random_stacks(seed: int) -> None:
    """Kernels, strides, padding and dilation of any height and width."""
    shape = (1, 97, 110)
    network = _trunk(build_network([*_random_layers(seed), 'global_average_pool',
                                    {'linear': 'classes'}], shape, 2))
    row = describe(network, shape, depth=1).rows[-1]
    dense = _dense(network)
    height, width = row.output_shape[1:]
    for at in ((height // 2, width // 2), (height // 2 - 1, width // 2)):
        assert _clipped(row.box(*at), shape) == row.box(*at), 'the image is too small'
        assert _measure(dense, row.name, shape, at) == row.box(*at)
    # At the border the outermost taps can lie in a padding between the layers.
    top, left, high, wide = _clipped(row.box(0, 0), shape)
    seen = _measure(dense, row.name, shape, (0, 0))
    assert top <= seen[0] and seen[0] + seen[2] <= top + high
    assert left <= seen[1] and seen[1] + seen[3] <= left + wide


def test_uneven_padding_as_tensorflow_has_it() -> None:
    network = create('efficientnet_lite0')
    table = describe(network, (3, 96, 128))
    row = table['blocks.2.1.conv_dw']
    assert row.jump == (8, 8)
    assert _measure(_dense(network), row.name, (3, 96, 128), (5, 7)) == row.box(5, 7)


def test_channel_attention_sees_the_whole_image() -> None:
    network = create('mobilenet_v3_small')
    rows = {row.name: row for row in describe(network, (3, 64, 64)).rows}
    before, after = rows['features.1.block.0.2'], rows['features.1.block.2.0']
    assert (before.receptive_field, before.whole_input) == ((7, 7), False)
    assert (after.receptive_field, after.whole_input) == ((64, 64), True)
    dense = _dense(network)
    assert _measure(dense, before.name, (3, 64, 64), (8, 8)) == before.box(8, 8)
    assert _measure(dense, after.name, (3, 64, 64), (8, 8)) == (0, 0, 64, 64)


def test_box_of_a_layer_without_one() -> None:
    table = describe('lenet5')
    assert table['pool2'].box(1, 2) == (4, 8, 16, 16)
    for name in ('flatten', 'fc1'):
        with pytest.raises(ArchitectureError, match='has no box in the image'):
            table[name].box(0, 0)


@pytest.mark.parametrize('part, expected', [
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.GroupNorm(1, 2)), 'all'),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.InstanceNorm2d(2)), 'all'),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Upsample(scale_factor=2)), None),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.ConvTranspose2d(2, 2, 2, 2)), None),
    (nn.Sequential(nn.Conv2d(2, 8, 3), nn.PixelShuffle(2)), None),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1)), (3, 3)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.CircularPad2d(1)), None),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(3)), None),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(5)), (4, 4)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1)), 'all'),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.ZeroPad2d((1, 2, 3, 4)), nn.PReLU()), (3, 3)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Hardswish(), nn.Mish(), nn.GELU(), nn.SiLU()), (3, 3)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.ChannelShuffle(2)), (3, 3)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(dim=1)), (3, 3)),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Softmax(dim=3)), None),
    (nn.Sequential(nn.Conv2d(2, 2, 3), nn.LayerNorm([2, 10, 10])), 'all'),
], ids=lambda value: type(value[-1]).__name__ if isinstance(value, nn.Module) else str(value))
def test_operations(part: nn.Module, expected: Any) -> None:
    """What cannot be told is left open; nothing is guessed."""
    row = describe(part, (2, 12, 12)).rows[-1]
    assert row.whole_input is (expected == 'all')
    assert row.receptive_field == ((12, 12) if expected == 'all' else expected)


def test_slicing_shifts_the_field() -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3)
            self.act = nn.ReLU()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.act(self.conv(image)[:, :, 2::3, 1:])

    network = Sliced()
    row = describe(network, (1, 20, 20)).rows[-1]
    assert (row.jump, row.offset) == ((3, 1), (3.0, 2.0))
    assert _measure(_dense(network), 'act', (1, 20, 20), (2, 4)) == row.box(2, 4)


@pytest.mark.parametrize('mode', ['reflect', 'replicate'])
def test_borders_that_are_reflected_or_replicated(mode: str) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 5, padding=(2, 1), padding_mode=mode), nn.Conv2d(2, 1, 3, stride=2))
    first, last = describe(network, (1, 20, 20)).rows
    assert (first.padding, first.offset) == (((2, 2), (1, 1)), (0.0, 1.0))
    assert (last.receptive_field, last.jump, last.offset) == ((7, 7), (2, 2), (1.0, 2.0))
    assert _measure(_dense(network), '1', (1, 20, 20), (4, 3)) == last.box(4, 3)


def test_borders_from_the_other_side() -> None:
    table = describe(nn.Sequential(nn.Conv2d(1, 1, 5, padding=2, padding_mode='circular')),
                     (1, 20, 20))
    assert table.rows[0].padding == ((2, 2), (2, 2))
    assert table.rows[0].receptive_field is None
    assert 'wrapped-around maps' in table.to_text()


@pytest.mark.parametrize('step, expected', [
    (lambda image: torch.stack([image, 2 * image], 1).sum(1), (3, 3)),
    (lambda image: torch.stack([image, 2 * image], -1)[..., 0].unsqueeze(0).squeeze(0), (3, 3)),
    (lambda image: image.max(1, keepdim=True)[0].expand(-1, 2, -1, -1), (3, 3)),
    (lambda image: image.min(1)[0].unsqueeze(1).expand(-1, 2, -1, -1), (3, 3)),
    (lambda image: image / image.std(1, keepdim=True), (3, 3)),
    (lambda image: image / image.std((2, 3), keepdim=True), 'all'),
    (lambda image: image / image.max(), 'all'),
    (lambda image: image - image.flatten(2).min(-1)[0][..., None, None], 'all'),
    (lambda image: image - image.min(2, keepdim=True)[0], None)])
def test_reductions_and_stacks(step: Any, expected: Any) -> None:
    class Stepped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = nn.Conv2d(2, 2, 3), nn.ReLU()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.act(step(self.conv(image)))

    row = describe(Stepped(), (2, 12, 12)).rows[-1]
    assert row.whole_input is (expected == 'all')
    assert row.receptive_field == ((12, 12) if expected == 'all' else expected)
    assert row.jump == (None if expected is None else (1, 1))


def test_maps_on_different_grids_are_not_joined() -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fine = nn.Conv2d(1, 1, 3, padding=1)
            self.coarse = nn.Conv2d(1, 1, 3, stride=2)
            self.act = nn.ReLU()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.act(self.fine(image)[:, :, :5, :5] + self.coarse(image))

    assert describe(Joined(), (1, 11, 11)).rows[-1].receptive_field is None


def test_a_network_is_measured_before_its_classifier() -> None:
    assert isinstance(create('lenet5'), LayeredNetwork)
    assert len(_trunk(create('lenet5'))) == 6
