"""Networks from YAML: what can be written, what is refused, and what the refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnn_perception.architectures import ArchitectureError, create, input_shape, Variation
from cnn_perception.architectures.layer_table import describe
import pytest
import torch
from torch import nn

CONFIG = Path(__file__).parents[2] / 'config' / 'architectures'
HEAD = 'input: [3, 16, 16]\nclasses: 4\n'
END = '  - flatten\n  - linear: classes\n'


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(text: str) -> str:
        path = tmp_path / 'net.yaml'
        path.write_text(text, encoding='utf-8')
        return str(path)
    return written


@pytest.mark.parametrize('name, shape, parameters', [
    ('lenet', (1, 32, 32), 61706), ('small_resnet', (3, 32, 32), 175258),
    ('small_vgg', (3, 32, 32), 814570)])
def test_examples(name: str, shape: tuple[int, int, int], parameters: int) -> None:
    path = str(CONFIG / f'{name}.yaml')
    assert input_shape(path) == shape
    assert describe(path).parameters == parameters
    assert create(path)(torch.rand(2, *shape)).shape == (2, 10)
    assert create(path, num_classes=3)(torch.rand(2, *shape)).shape == (2, 3)


def test_the_lenet_example_is_lenet5() -> None:
    example, own = describe(str(CONFIG / 'lenet.yaml')), describe('lenet5')
    assert [(row.kind, row.output_shape, row.parameters) for row in example.rows] == [
        (row.kind, row.output_shape, row.parameters) for row in own.rows]


def test_every_layer_type_and_every_way_to_write_one(write: Any) -> None:
    path = write(HEAD + """layers:
  - conv: {name: first, channels: 8, kernel: [3, 1], padding: [1, 0], bias: false}
  - {type: batchnorm, name: norm}
  - relu
  - type: conv
    channels: same
    kernel: 3
    padding: same
    dilation: 2
    groups: 4
  - tanh:
  - channel_dropout: 0.2
  - pool: avg
  - local_response_norm
  - residual: {channels: 12, stride: 2, bottleneck: true, activation: tanh}
  - residual: 12
  - inception: {1x1: 2, 3x3: [3, 4], 5x5: [1, 2], pool: 3, batchnorm: true}
  - sigmoid
  - global_average_pool
  - dropout
  - linear: {features: 6, bias: false}
  - batchnorm
  - linear: classes
""")
    rows = {row.name: row for row in describe(path, depth=1).rows}
    assert [(name, row.output_shape) for name, row in rows.items()] == [
        ('first', (8, 16, 16)), ('norm', (8, 16, 16)), ('relu1', (8, 16, 16)),
        ('conv2', (8, 16, 16)), ('tanh1', (8, 16, 16)), ('channel_dropout1', (8, 16, 16)),
        ('pool1', (8, 8, 8)), ('norm1', (8, 8, 8)), ('residual1', (12, 4, 4)),
        ('residual2', (12, 4, 4)), ('inception1', (11, 4, 4)), ('sigmoid1', (11, 4, 4)),
        ('global_average_pool', (11,)), ('dropout1', (11,)), ('fc1', (6,)), ('bn2', (6,)),
        ('fc2', (4,))]
    assert rows['first'].parameters == 8 * 3 * 3
    assert rows['conv2'].parameters == 8 * (8 // 4) * 9 + 8
    # 1x1 to 3 and back to 12 around a 3x3, with batch normalisation, and the 1x1 shortcut.
    assert rows['residual1'].parameters == (8 * 3 + 6) + (27 * 3 + 6) + (36 + 24) + (96 + 24)
    # The stride is that of the 3x3, so that every pixel is read.
    strides = {row.name: row.stride for row in describe(path).rows}
    assert [strides[f'residual1.path.{part}.conv'] for part in range(3)] == [
        (1, 1), (2, 2), (1, 1)]
    # 1x1; 3x3 and its reduction; 5x5 and its reduction; 1x1 behind the pooling.
    assert rows['inception1'].parameters == (24 + 4) + (36 + 6) + (108 + 8) + (12 + 2) + (
        50 + 4) + (36 + 6)
    network = create(path).train()
    assert isinstance(network.get_submodule('channel_dropout1'), nn.Dropout2d)
    assert network(torch.rand(2, 3, 16, 16)).shape == (2, 4)


def test_a_residual_block_adds_its_input() -> None:
    torch.manual_seed(0)
    block = create(str(CONFIG / 'small_resnet.yaml')).get_submodule('block1_1').eval()
    with torch.no_grad():
        for part in block.path.modules():  # type: ignore[union-attr]
            if isinstance(part, nn.Conv2d):
                part.weight.zero_()
    activation = torch.rand(1, 16, 8, 8)
    torch.testing.assert_close(block(activation), activation)


@pytest.mark.parametrize('layers, told', [
    ('  - conv: {channels: 8, kernel: 17}\n' + END,
     r'layer 0, conv1 \(conv\): got shape 3 x 16 x 16, where a kernel of 17 x 17 with padding '
     r'0 x 0 has no room: a kernel up to 16 x 16 would fit, or a padding of at least 1'),
    ('  - conv: {channels: 8, kernel: 5, dilation: 4}\n' + END, 'a kernel up to 4 x 4 would fit'),
    ('  - pool\n  - pool\n  - pool\n  - pool\n  - pool\n' + END,
     r'layer 4, pool5 \(pool\): got shape 3 x 1 x 1'),
    ('  - conv: {channels: 8, kernel: 3}\n  - linear: classes\n',
     r'layer 1, fc1 \(linear\): got shape 8 x 14 x 14, .*put flatten or global_average_pool '),
    ('  - flatten\n  - conv: {name: late, channels: 8, kernel: 3}\n' + END,
     r'layer 1, late \(conv\): got shape 768, a convolution needs channels x height x width'),
    ('  - flatten\n  - channel_dropout\n' + END, 'channel dropout needs channels'),
    ('  - conv: {type: pool, kernel: 2}\n' + END,
     "layer 0: got a type, 'pool', among the keys of 'conv': write it once"),
    ('  - conv: {channels: 8, kernel: 3, groups: 2}\n' + END,
     'got 2 groups for 3 input and 8 output channels'),
    ('  - conv: {channels: 8, kernel: 4, padding: same}\n' + END, 'needs odd kernels'),
    ('  - pool: {kernel: 2, padding: 2}\n' + END, 'at most half its kernel'),
    ('  - inception: {batchnorm: true}\n' + END, 'an inception block without branches'),
    ('  - flatten\n  - linear: 7\n',
     r'layer 1, fc1 \(linear\): the last layer gives 7, expected 4, one score a class'),
    ('  - conv: {channels: 4, kernel: 1}\n', 'gives 4 x 16 x 16, expected 4'),
])
def test_layers_that_do_not_fit(write: Any, layers: str, told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        create(write(f'{HEAD}layers:\n{layers}'))


@pytest.mark.parametrize('layer, told', [
    ('convolution: {channels: 8}', r"unknown layer type 'convolution'\. Did you mean conv\?"),
    ('conv: {chanels: 8, kernel: 3}', r"unknown key 'chanels'\. Did you mean channels"),
    ('conv: {channels: 8}', 'the key kernel is missing'),
    ('conv: {channels: 0, kernel: 3}', 'channels: got 0, expected a whole number from 1'),
    ('conv: {channels: 8, kernel: 3.0}', r'kernel: got 3\.0, expected'),
    ('conv: {channels: true, kernel: 3}', 'channels: got True'),
    ('conv: {channels: 8, kernel: [3, 3, 3]}', 'kernel: got'),
    ('conv: {channels: 8, kernel: 3, padding: valid}', "padding: got 'valid'"),
    ('conv: {channels: 8, kernel: 3, bias: 1}', 'bias: got 1, expected true or false'),
    ('conv: 8', 'got 8 for conv, expected its keys'),
    ('softmax', r"'softmax'\. Networks return scores, .* the classifier applies .*: leave it out"),
    ('fc: 10', r"unknown layer type 'fc'\. Did you mean linear\?"),
    ('BN', r"unknown layer type 'BN'\. Did you mean batchnorm\?"),
    ('pool: 3', r'got pool: 3, expected max or avg; .* write pool: \{kernel: 3\}'),
    ('pool: median', "kind: got 'median', expected one of max, avg"),
    ('dropout: 1.0', r'p: got 1\.0, expected a probability'),
    ('residual: {channels: 8, activation: gelu}', "activation: got 'gelu', expected one of relu"),
    ('inception: {3x3: 4}', '3x3: got 4, expected two channel counts'),
    ('{channels: 8, kernel: 3}', 'without a type'),
    ('[conv, 3]', r"got \['conv', 3\], expected a type with its keys"),
    ('relu: {slope: 1}', "unknown key 'slope'"),
    ('relu: {name: a b}', "got the name 'a b', expected letters"),
    ('relu: {name: été}', 'expected letters'),
    ('relu: {name: a__b}', 'expected letters'),
    ('relu: {name: 1a}', 'expected letters'),
    ('relu: {name: [a]}', 'expected letters'),
    ('relu: {name: a.b}', "got the name 'a.b', expected letters"),
    ('relu: {name: forward}', 'the name forward means something to PyTorch already'),
    ('relu: {name: training}', 'the name training means something to PyTorch already'),
    ('relu: {name: input_shape}', 'the name input_shape means something to PyTorch already'),
    ('conv: {channels: 1000000, kernel: 1, padding: 1000}', 'which is too large'),
])
def test_layers_that_mean_nothing(write: Any, layer: str, told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        create(write(f'{HEAD}layers:\n  - {layer}\n{END}'))


def test_names_given_twice_are_refused_and_unnamed_layers_avoid_them(write: Any) -> None:
    tanh = '  - tanh: {name: relu1}\n'
    with pytest.raises(ArchitectureError, match='the name relu1 is taken by an earlier'):
        create(write(f'{HEAD}layers:\n  - relu\n{tanh}{tanh}{END}'))
    network = create(write(f'{HEAD}layers:\n  - relu\n{tanh}{END}'))
    names = [name for name, part in network.named_children()]
    assert names == ['relu2', 'relu1', 'flatten', 'fc1']


@pytest.mark.parametrize('text, told', [
    ('layers: [flatten]\nclasses: 4\n', r'input: got None, expected \[channels, height, width\]'),
    ('input: [3, 16]\nclasses: 4\nlayers: [flatten]\n', 'input: got'),
    ('input: [3, 16, 0]\nclasses: 4\nlayers: [flatten]\n', 'input: got'),
    ('input: [3, 16, 16]\nlayers: [flatten]\n', 'the key classes is missing'),
    ('input: [3, 16, 16]\nclasses: many\nlayers: [flatten]\n', "classes: got 'many'"),
    (HEAD, 'got none of layers, pattern, base, expected one of them'),
    (HEAD + 'layers: [flatten]\npattern: CONV\n', 'got layers and pattern'),
    (HEAD + 'layers: flatten\n', "layers: got 'flatten', expected a list"),
    (HEAD + 'layers: []\n', 'got 0 layers'),
    (HEAD + 'layer: [flatten]\n', r"unknown key 'layer'\. Did you mean layers"),
    (HEAD + 'layers: [flatten]\nchannels: 8\n', 'channels: belongs to a pattern'),
    (HEAD + 'layers: [flatten]\noptions: {batchnrm: true}\n', r'Did you mean batchnorm'),
    (HEAD + 'layers: [flatten]\noptions: {batchnorm: 1}\n', 'options: batchnorm: got 1'),
    (HEAD + 'layers: [flatten]\noptions: {downsampling: none}\n', 'downsampling: got'),
    (HEAD + 'layers: [flatten]\noptions: {channel_dropout: 2}\n', 'channel_dropout: got 2'),
    (HEAD + 'layers: [flatten]\noptions: [batchnorm]\n', 'options: got'),
    (HEAD + 'pattern: 3\n', 'pattern: got 3'),
    (HEAD + 'pattern: [CONV-RELU-FC]\n', r"got \['CONV-RELU-FC'\], expected .*', in quotes$"),
    (HEAD + 'pattern: CONV\nchannels: wide\n', "channels: got 'wide'"),
    (HEAD + 'pattern: CONV*N\nrepeat: {N: two}\n', 'repeat: got'),
    ('base: lenet5\ninput: [1, 32, 32]\n', 'input: a network with a base takes what that takes'),
    ('base: resnet18\n', "base: got 'resnet18', expected one of the lecture networks"),
    ('base: lenet9\n', r"base: got 'lenet9', .* Did you mean lenet5"),
    ('[1, 2]\n', 'expected the keys input, classes and layers'),
    ('input: [3, 16\n', 'is not YAML: while parsing'),
    (HEAD + 'pattern: [(CONV-RELU)*N - POOL]*M - (FC-RELU)*K\n',
     r'is not YAML \(put the pattern in quotes\): while parsing'),
    ('input: !!python/object/apply:os.getcwd []\n', 'is not YAML'),
    ('[' * 5000, 'is not YAML'),
    ('a' * 1_000_001, 'is larger than 1000000 bytes'),
    ('', 'got None, expected the keys'),
    (HEAD + 'layers: &a [*a, *a]\n', r'layer 0: got \[\[.*expected a type with its keys'),
])
def test_files_that_mean_nothing(write: Any, text: str, told: str) -> None:
    path = write(text)
    with pytest.raises(ArchitectureError, match=told) as raised:
        create(path)
    assert str(raised.value).startswith(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r'cannot be read \(No such file'):
        create(str(tmp_path / 'none.yaml'))
    with pytest.raises(ArchitectureError, match='cannot be read'):
        input_shape(str(tmp_path / 'none.yaml'))


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / 'net.yml'
    path.write_bytes(b'\xff\xfe\x00input')
    with pytest.raises(ArchitectureError, match='is not YAML'):
        create(str(path))


def test_a_network_too_large_is_refused_before_it_is_built(write: Any) -> None:
    text = 'input: [3, 500, 500]\nclasses: 4\nlayers: [flatten, linear: 1000000, linear: classes]'
    with pytest.raises(ArchitectureError, match=r'would have 750,00\d,\d+,?\d* parameters'):
        create(write(text))


def test_base_with_options(write: Any) -> None:
    path = write('base: lenet5\nclasses: 3\noptions: {batchnorm: true}\n')
    assert input_shape(path) == (1, 32, 32)
    network = create(path)
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    expected = create('lenet5', num_classes=3, variation=Variation(batchnorm=True))
    assert str(network) == str(expected)


def test_options_given_in_python_replace_those_of_the_file() -> None:
    path = str(CONFIG / 'small_vgg.yaml')
    assert 'BatchNorm2d' in str(create(path))
    assert 'BatchNorm2d' not in str(create(path, variation=Variation()))
