"""The layer table against published figures, against hand-made ones, and in all its forms."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from cnn_perception.architectures import ArchitectureError, create, names
from cnn_perception.architectures.efficientnet import SamePadConv2d
from cnn_perception.architectures.layer_table import describe, LayerTable
from cnn_perception.architectures.network import build_network
from cnn_perception.architectures.skeleton import skeleton
from cnn_perception.architectures.table_text import count_text
import pytest
import torch
from torch import nn
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

TORCHVISION = torchvision.models.list_models(module=torchvision.models)
HAND_MADE = [{'conv': {'channels': 4, 'kernel': 3, 'stride': 2}}, 'relu', 'flatten',
             {'linear': 'classes'}]


@pytest.mark.parametrize('name', TORCHVISION)
def test_published_parameters_and_multiply_adds(name: str) -> None:
    """Transformers are held to the same limits as convolutional networks."""
    published = {
        (entry.transforms.keywords['crop_size'], entry.meta['num_params'], entry.meta['_ops'])
        for entry in torchvision.models.get_model_weights(name)}
    assert published
    for size, parameters, billions in published:
        network: Any = name
        if name.startswith('vit_'):
            network = skeleton(torchvision.models.get_model, name, image_size=size)
        table = describe(network, (3, size, size))
        assert table.parameters == parameters
        allowed = max(0.005 * billions, 0.0005)
        assert table.multiply_adds / 1e9 == pytest.approx(billions, abs=allowed)
        assert sum(row.parameters for row in table.rows) == table.parameters
        assert sum(row.multiply_adds for row in table.rows) == table.multiply_adds
        assert table.rows[0].multiply_adds > 0


@pytest.mark.parametrize('name, twin', [
    ('timm/efficientnet_b0', 'efficientnet_b0'), ('timm/convnext_tiny', 'convnext_tiny'),
    ('timm/mobilenetv3_small_100', 'mobilenet_v3_small'), ('timm/resnet18', 'resnet18'),
    ('timm/vgg11_bn', 'vgg11_bn'), ('timm/densenet121', 'densenet121')])
def test_timm_networks_cost_what_torchvisions_twins_do(name: str, twin: str) -> None:
    table, other = describe(name, (3, 224, 224)), describe(twin, (3, 224, 224))
    assert table.parameters == other.parameters
    assert table.multiply_adds == other.multiply_adds


@pytest.mark.parametrize('name', [
    'ghostnet_100', 'repvgg_a0', 'mixnet_s', 'dla34', 'regnety_008', 'resnet50d', 'inception_v4',
    'convnextv2_atto', 'hrnet_w18_small', 'tf_efficientnetv2_b0', 'vit_tiny_patch16_224'])
def test_timm_networks(name: str) -> None:
    table = describe(f'timm/{name}')
    module = skeleton(create, f'timm/{name}')
    assert table.parameters == sum(one.numel() for one in module.parameters())
    assert table.multiply_adds > 1e6
    assert table.rows[-1].output_shape == (1000,)


class Constants(nn.Module):
    """What nobody registered as a buffer, and what is made in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
        self.vector = torch.ones(192)
        self.both = nn.Bilinear(192, 192, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = ((image - self.mean) / torch.tensor(0.25)).flatten(1)
        return self.both(flat, flat) + (flat @ self.vector)[:, None]


class Sizes(nn.Module):
    """A forward pass that reads values of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = torch.tensor([4, 2])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows, columns = self.sizes.tolist()
        return image[:, :, :rows, :columns * int(torch.tensor(2.0))].flatten(1)


def test_constants_that_are_read_stay_readable() -> None:
    assert describe(Sizes(), (3, 8, 8)).rows[-1].output_shape == (3 * 4 * 4,)


def test_constants_and_products_of_other_kinds() -> None:
    module = Constants()
    table = describe(module, (3, 8, 8))
    assert table.multiply_adds == 5 * 192 * 192 + 192
    assert table.parameters == 5 * 192 * 192 + 5
    # It is a copy that lies on no device.
    assert module.mean.device.type == 'cpu'


def test_a_network_counted_by_hand() -> None:
    table = describe(build_network(HAND_MADE, (1, 6, 7), 3))
    conv, relu, flatten, linear = table.rows
    # Rows: (6 - 3) / 2 + 1 = 2.5, so the last row is never read; columns: (7 - 3) / 2 + 1 = 3.
    assert (conv.name, conv.kind, conv.output_shape, conv.fits) == (
        'conv1', 'Conv2d', (4, 2, 3), False)
    assert (conv.kernel, conv.stride, conv.padding, conv.dilation) == (
        (3, 3), (2, 2), ((0, 0), (0, 0)), (1, 1))
    assert (conv.parameters, conv.multiply_adds) == (4 * 9 + 4, 4 * 2 * 3 * 9)
    assert (conv.receptive_field, conv.jump, conv.offset) == ((3, 3), (2, 2), (1.0, 1.0))
    assert (relu.kernel, relu.fits, relu.receptive_field) == (None, None, (3, 3))
    assert (flatten.output_shape, flatten.activations, flatten.jump) == ((24,), 0, None)
    assert (linear.parameters, linear.multiply_adds) == (24 * 3 + 3, 24 * 3)
    assert (linear.receptive_field, linear.whole_input) == ((6, 7), True)
    assert (table.parameters, table.multiply_adds) == (40 + 75, 216 + 72)
    assert conv.parameters_share == 40 / 115
    assert conv.multiply_adds_share == 216 / 288
    assert table.activation_bytes == 4 * (24 + 24 + 3)
    assert table.weight_bytes == 4 * 115


@pytest.mark.parametrize('precision, size', [
    ('float32', 4), ('float16', 2), ('bfloat16', 2), ('int8', 1)])
def test_precision(precision: str, size: int) -> None:
    table = describe('lenet5', precision=precision)
    assert table.weight_bytes == 61706 * size
    # Two convolutions with tanh and pooling, then 120, 120, 84, 84 and 10.
    activations = 2 * 4704 + 1176 + 2 * 1600 + 400 + 2 * 120 + 2 * 84 + 10
    assert table.activation_bytes == activations * size


def test_other_inputs() -> None:
    small, large = describe('resnet18'), describe('resnet18', (3, 480, 640))
    assert large.input_shape == (3, 480, 640)
    assert large['layer4.1.conv2'].output_shape == (512, 15, 20)
    assert large.parameters == small.parameters
    assert large['conv1'].multiply_adds * 224 * 224 == small['conv1'].multiply_adds * 480 * 640


def test_depth_sums_blocks_up() -> None:
    full, blocks = describe('resnet18'), describe('resnet18', depth=1)
    assert [row.name for row in blocks.rows] == [
        'conv1', 'bn1', 'relu', 'maxpool', 'layer1', 'layer2', 'layer3', 'layer4', 'avgpool', 'fc']
    inside = [row for row in full.rows if row.name.startswith('layer2.')]
    layer = blocks['layer2']
    assert layer.parameters == sum(row.parameters for row in inside) == 525568
    assert layer.multiply_adds == sum(row.multiply_adds for row in inside)
    assert layer.activations == sum(row.activations for row in inside)
    assert layer.output_shape == (128, 28, 28)
    assert layer.receptive_field == full['layer2.1.relu_1'].receptive_field
    assert (layer.kernel, layer.fits) == (None, False)
    for other in (describe('resnet18', depth=2), full):
        assert (other.parameters, other.multiply_adds, other.activation_bytes) == (
            blocks.parameters, blocks.multiply_adds, blocks.activation_bytes)
    assert 'layer2.0' in [row.name for row in describe('resnet18', depth=2).rows]


def test_auxiliary_classifiers_are_shown_and_do_not_run() -> None:
    row = describe('inception_v3', depth=1)['AuxLogits']
    assert (row.kind, row.runs, row.multiply_adds, row.output_shape) == ('unused', False, 0, ())
    assert row.parameters == 27161264 - 23834568


def test_parameters_that_a_module_uses_without_running_their_holder_are_its_own() -> None:
    table = describe('vit_b_16')
    assert all(row.runs for row in table.rows)
    attention = table['encoder.layers.encoder_layer_0.self_attention']
    assert attention.parameters == 4 * (768 * 768 + 768)


def test_a_kernel_that_does_not_tile_marks_the_block_around_it() -> None:
    class Pooling(nn.Module):
        def __init__(self, sizes: tuple[int, ...]) -> None:
            super().__init__()
            self.sizes = sizes

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            for size in self.sizes:
                image = nn.functional.max_pool2d(image, size)
            return image

    for sizes, fits in (((2, 3), True), ((5, 2), False), ((3, 2), True), ((2, 4), False)):
        assert describe(Pooling(sizes), (1, 12, 12)).rows[0].fits is fits


def test_work_outside_layers_is_counted() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 1)
            self.mixing = nn.Parameter(torch.zeros(5, 7))

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image) @ self.mixing

    table = describe(Scaled(), (1, 3, 5))
    assert table['(network)'].kind == 'Scaled (own)'
    assert table['(network)'].parameters == 35
    assert table['(network)'].multiply_adds == 2 * 3 * 5 * 7
    assert table.parameters == 35 + 4


def test_shared_parameters_count_once_and_their_work_each_time() -> None:
    conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)
    table = describe(nn.Sequential(conv, nn.ReLU(), conv), (2, 4, 4))
    assert [row.name for row in table.rows] == ['0', '1', '0_1']
    assert table.parameters == 36
    assert table.multiply_adds == 2 * (2 * 16 * 2 * 9)


def test_rows_have_names_of_their_own() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)
            self.conv_1 = nn.Conv2d(1, 1, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(self.conv_1(self.conv_1(self.conv(self.conv(image)))))

    table = describe(Again(), (1, 8, 8))
    assert [row.name for row in table.rows] == ['conv', 'conv_2', 'conv_1', 'conv_1_1', 'conv_3']
    assert [row.parameters for row in table.rows] == [2, 0, 10, 0, 0]


def test_kernels_of_other_convolutions() -> None:
    table = describe(nn.Sequential(
        nn.ConvTranspose2d(1, 2, (4, 2), (2, 1), (1, 0)), nn.Flatten(2),
        nn.Conv1d(2, 2, 5, 3, 2)), (1, 4, 8))
    transposed, _, line = table.rows
    assert (transposed.kernel, transposed.stride, transposed.padding, transposed.fits) == (
        (4, 2), (2, 1), ((1, 1), (0, 0)), None)
    # (4 - 1) x 2 + 4 - 2 x 1 rows, (8 - 1) x 1 + 2 columns.
    assert transposed.output_shape == (2, 8, 9)
    assert (line.kernel, line.stride, line.padding, line.fits) == (
        (1, 5), (1, 3), ((0, 0), (2, 2)), None)
    assert transposed.receptive_field is line.receptive_field is None


def test_layers_without_sizes() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d())
    with pytest.raises(ArchitectureError, match=r'0 \(LazyConv2d\) has no sizes yet: run the'):
        describe(network, (3, 8, 8))
    network(torch.rand(2, 3, 8, 8))
    assert [row.parameters for row in describe(network, (3, 8, 8)).rows] == [4 * 27 + 4, 8]


def test_a_module_in_use_is_left_alone() -> None:
    module = create('lenet5').train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    table = describe(module)
    assert table.network == 'LayeredNetwork'
    assert table.rows == describe('lenet5').rows
    assert module.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    for name, value in module.state_dict().items():
        assert value.device.type == 'cpu'
        assert torch.equal(value, before[name])


def test_a_network_with_taps_and_half_precision() -> None:
    module = create('resnet18').eval()
    tapped = create_feature_extractor(module, ['layer1.0.relu', 'fc']).half()
    table = describe(tapped, (3, 224, 224))
    assert table.parameters == 11689512
    assert table.multiply_adds == describe('resnet18').multiply_adds


@pytest.mark.parametrize('name', ['swin_t', 'swin_v2_t'])
def test_attention_in_windows_has_no_field(name: str) -> None:
    table = describe(name)
    first = next(row for row in table.rows if 'Attention' in row.kind)
    assert first.receptive_field is None
    assert not first.whole_input
    assert '?' in table.to_text()


def test_attention_sees_everything() -> None:
    table = describe('vit_b_16')
    assert table['conv_proj'].receptive_field == (16, 16)
    attention = table['encoder.layers.encoder_layer_0.self_attention']
    assert attention.whole_input
    assert not table['encoder.layers.encoder_layer_0.ln_1'].whole_input


def test_channel_attention_sees_everything_on_the_same_grid() -> None:
    table = describe('efficientnet_b0')
    gated = table['features.1.0.block.2.0']
    assert gated.whole_input
    assert (gated.jump, gated.output_shape) == ((2, 2), (16, 112, 112))


def test_uneven_padding() -> None:
    row = describe('efficientnet_lite0')['conv_stem']
    assert row.padding == ((0, 1), (0, 1))
    assert row.offset == (1.0, 1.0)
    assert row.fits is True


def _records(table: LayerTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.to_csv(), newline='')))


def test_json() -> None:
    table = describe('lenet5', precision='int8')
    told = json.loads(table.to_json())
    assert set(told) == {'network', 'input_shape', 'precision', 'totals', 'layers'}
    assert (told['network'], told['input_shape'], told['precision']) == (
        'lenet5', [1, 32, 32], 'int8')
    assert told['totals'] == {'parameters': 61706, 'multiply_adds': 416520, 'weight_bytes': 61706,
                              'activation_bytes': table.activation_bytes}
    assert len(told['layers']) == len(table.rows)
    conv = told['layers'][3]
    assert (conv['name'], conv['type'], conv['kernel'], conv['fits']) == (
        'conv2', 'Conv2d', [5, 5], True)
    assert conv['receptive_field'] == [14, 14]
    assert (conv['jump'], conv['offset']) == ([2, 2], [6.5, 6.5])
    assert told['layers'][-1]['kernel'] is None
    assert told['layers'][-1]['whole_input'] is True


def test_csv() -> None:
    records = _records(describe(build_network(HAND_MADE, (1, 6, 7), 3)))
    assert [one['name'] for one in records] == ['conv1', 'relu1', 'flatten', 'fc1']
    assert records[0] == {
        'name': 'conv1', 'type': 'Conv2d', 'kernel': '3x3', 'stride': '2x2', 'padding': '0x0',
        'dilation': '1x1', 'fits': 'false', 'output': '4x2x3', 'parameters': '40',
        'parameters_share': '0.347826', 'multiply_adds': '216', 'multiply_adds_share': '0.750000',
        'receptive_field': '3x3', 'whole_input': 'false', 'jump': '2x2', 'offset_rows': '1.0',
        'offset_columns': '1.0'}
    assert records[2]['kernel'] == records[2]['jump'] == ''


def test_text() -> None:
    lines = describe(build_network(HAND_MADE, (1, 6, 7), 3)).to_text().splitlines()
    assert lines[0] == 'LayeredNetwork, input 1 x 6 x 7'
    assert lines[2].split() == [
        'name', 'type', 'kernel', 'stride', 'padding', 'output', 'parameters', '%',
        'multiply-adds', '%', 'receptive', 'field', 'input', 'stride']
    assert lines[4].split() == ['conv1', 'Conv2d', '3*', '2', '0', '4', 'x', '2', 'x', '3', '40',
                                '34.8', '216', '75.0', '3', '2']
    assert 'parameters     115' in lines
    assert any(line.startswith('*  the kernel does not tile') for line in lines)
    assert not any(line.startswith('?') for line in lines)


def test_cells_that_differ_by_axis_or_side() -> None:
    network = nn.Sequential(
        SamePadConv2d(1, 1, 3, 2), nn.Conv2d(1, 1, 3, padding=(2, 1), dilation=(2, 1)))
    lines = describe(network, (1, 8, 8)).to_text().splitlines()
    assert lines[4].split()[:5] == ['0', 'SamePadConv2d', '3', '2', '0/1']
    assert lines[5].split()[:7] == ['1', 'Conv2d', '3', 'every', '2x1', '1', '2x1']


def test_what_does_not_run_has_no_unknown_field() -> None:
    text = describe('inception_v3', depth=1).to_text()
    assert '\nunused  has parameters' in text
    assert '?' not in text


@pytest.mark.parametrize('count, told', [
    (0, '0'), (9999, '9999'), (10000, '10.0 k'), (118013952, '118.0 M'),
    (4089184256, '4.089 G')])
def test_counts(count: int, told: str) -> None:
    assert count_text(count) == told


def test_a_compiled_module_is_the_one_that_was_compiled() -> None:
    module = create('lenet5')
    assert describe(torch.compile(module)) == describe(module)


def test_markdown() -> None:
    lines = describe('googlenet', depth=1).to_markdown().splitlines()
    table = [line for line in lines if line.startswith('|')]
    assert len({line.count('|') for line in table}) == 1
    assert set(table[1]) == set('| :-')
    assert any('3\\*' in line for line in table)


def test_every_own_network_has_a_table() -> None:
    for name in set(names()) - set(TORCHVISION):
        table = describe(name)
        assert table.rows[-1].output_shape in ((10,), (1000,))
        assert name in table.to_text()


@pytest.mark.parametrize('arguments, told', [
    ({'module_or_name': 'lenet5', 'precision': 'float31'}, 'precision: got'),
    ({'module_or_name': 'lenet5', 'depth': 0}, 'depth: got 0'),
    ({'module_or_name': 'lenet5', 'input_shape': (32, 32)}, 'input: got'),
    ({'module_or_name': 'lenet5', 'input_shape': (1, 32, 0)}, 'input: got'),
    ({'module_or_name': 'lenet5', 'input_shape': (3, 32, 32)},
     r'lenet5: the network does not take an input of 3 x 32 x 32 in conv1 \(Conv2d\): it takes '
     '1 channel, got 3; give an input of 1 x 32 x 32$'),
    ({'module_or_name': 'vgg16', 'input_shape': (224, 200, 3)},
     'it takes 3 channels, got 224; channels come first, as in 3 x 224 x 200$'),
    ({'module_or_name': nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)),
      'input_shape': (3, 8, 8)}, r'in 1 \(Conv2d\): it takes 3 channels, got 4$'),
    ({'module_or_name': nn.Conv2d(1, 4, 1), 'input_shape': (3, 8, 3)},
     'it takes 1 channel, got 3; give an input of 1 x 8 x 3$'),
    ({'module_or_name': nn.Conv2d(3, 4, 9), 'input_shape': (3, 8, 8)},
     "8: Calculated padded input size .* Kernel size can't be greater"),
    ({'module_or_name': nn.Conv2d(1, 1, 1)}, 'does not say what input it takes'),
    ({'module_or_name': 'resnet18', 'input_shape': (3, 10 ** 7, 1)}, 'input: got'),
])
def test_misuse(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        describe(**arguments)


def test_an_unknown_row_answers_with_near_ones() -> None:
    with pytest.raises(ArchitectureError, match='Did you mean conv2, conv1'):
        describe('lenet5')['conv3']
