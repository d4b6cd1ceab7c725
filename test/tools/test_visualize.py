"""The command line `visualize`: which files it writes, and what it says about mistakes."""

from pathlib import Path
import signal
import subprocess
import sys
import time

from cnn_perception.classifier import Classifier
from cnn_perception.explain import NetworkLayers
from cnn_perception.photographs import photograph
from cnn_perception.tools.visualize import main
from cnn_perception.tools.visualize_options import parser, read_maps
import cv2
import numpy as np
import pytest

LENET = ['--architecture', 'lenet5', '--weights', 'none', '--device', 'cpu']


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'picture.png'
    cv2.imwrite(str(path), photograph('cat')[::4, ::4, ::-1])
    return str(path)


def test_pictures_of_a_photograph(tmp_path, capsys):
    out = tmp_path / 'new' / 'folder'
    assert main(['--image', 'coffee', '--device', 'cpu', '--layers', 'conv_stem', 'bn?',
                 '--out', str(out)]) == 0
    written = capsys.readouterr()
    names = ['overlay', 'cam', 'filters', 'edges', 'dashboard', 'layer_conv_stem', 'layer_bn1',
             'layer_bn2']
    lines = written.out.splitlines()
    assert lines[0].endswith('  espresso')
    scores = [float(line.split()[0]) for line in lines[:5]]
    assert 1.0 > scores[0] >= scores[1] >= scores[4]
    assert [Path(line.split()[0]).stem for line in lines[5:]] == names
    assert written.err == ''
    pictures = {name: cv2.imread(str(out / f'{name}.png')) for name in names}
    assert pictures['overlay'].shape == pictures['cam'].shape == (400, 600, 3)
    assert pictures['dashboard'].shape == (720, 1280, 3)
    # The rim of the cup is red, wherever the heat is: channels are in the right order.
    assert pictures['overlay'][120, 350, 2] > pictures['overlay'][120, 350, 0]


def test_options_reach_the_mosaic(tmp_path, image):
    assert main([*LENET, '--image', image, '--layers', 'conv1', '--channels', '4', '2', '--scale',
                 '3', '--normalize', '-1', '2.5', '--colormap', 'grey', '--no-labels', '--out',
                 str(tmp_path)]) == 0
    picture = cv2.imread(str(tmp_path / 'layer_conv1.png'))
    # Two maps of 28 pixels at 3 to one, under a caption of at least 420 pixels.
    assert picture.shape == (26 + 86, 420, 3)
    assert np.ptp(picture[26:], axis=2).max() == 0


def test_own_weights_are_shown_as_the_node_uses_them(tmp_path, image, capsys):
    labels = tmp_path / 'names.txt'
    labels.write_text('\n'.join(f'thing {index}' for index in range(10)))
    settings = ['--label-file', str(labels), '--input-size', '32', '40', '--mean', '0.2', '--std',
                '0.3']
    assert main([*LENET, '--image', image, '--list', *settings]) == 2
    assert 'does not take an input of (1, 32, 40)' in capsys.readouterr().err
    own = [*settings[:2], *settings[-4:], '--out', str(tmp_path / 'one')]
    assert main([*LENET, '--image', image, '--class', 'thing 7', '--layers', 'conv1', *own]) == 0
    assert main([*LENET, '--image', image, '--layers', 'conv1', '--out', str(tmp_path / 'two')]
                ) == 0
    one, two = (cv2.imread(str(tmp_path / name / 'layer_conv1.png')) for name in ('one', 'two'))
    assert one.shape == two.shape
    assert main([*LENET, '--image', image, '--mean', '120', '--std', '60']) == 2
    assert 'divide both by 255' in capsys.readouterr().err


def test_a_class_by_name_and_by_number(tmp_path, image):
    pictures = []
    for wanted in ('tripod', '872', 'espresso'):
        assert main(['--image', image, '--device', 'cpu', '--class', wanted, '--layers', 'bn2',
                     '--out', str(tmp_path)]) == 0
        pictures.append(cv2.imread(str(tmp_path / 'cam.png')))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()


def test_a_network_without_rows_and_columns(tmp_path, image, capsys):
    assert main(['--image', image, '--architecture', 'two_layer', '--weights', 'none',
                 '--device', 'cpu', '--out', str(tmp_path)]) == 0
    assert 'no cam.png: ' in capsys.readouterr().err
    assert not (tmp_path / 'cam.png').exists()
    assert not (tmp_path / 'filters.png').exists()
    assert (tmp_path / 'layer_relu1.png').exists()


def test_layers_that_cannot_be_drawn_are_told_and_left_out(tmp_path, capsys):
    assert main(['--image', 'cat', '--architecture', 'timm/vit_tiny_patch16_224', '--weights',
                 'none', '--device', 'cpu', '--layers', 'patch_embed.proj', 'blocks.0.attn.*',
                 'norm.layer_norm', '--channels', '3,5000,3', '--out', str(tmp_path)]) == 0
    names = {path.stem for path in tmp_path.iterdir()}
    assert {'overlay', 'layer_patch_embed.proj', 'layer_norm.layer_norm'} <= names
    assert main(['--image', 'cat', *LENET, '--layers', 'conv1', 'conv2', '--channels', '9',
                 '--out', str(tmp_path)]) == 0
    told = capsys.readouterr().err
    assert 'no picture of conv1: there is no channel 9' in told
    assert (tmp_path / 'layer_conv2.png').exists()
    assert main(['--image', 'cat', *LENET, '--layers', 'conv1', 'conv2', '--channels', '1', '9',
                 '--out', str(tmp_path / 'other')]) == 0
    assert capsys.readouterr().err == 'conv1 has 6 channels: not all of --channels\n'


def test_list(capsys):
    assert main([*LENET, '--list']) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    shapes = NetworkLayers(Classifier('lenet5', 'none', 'cpu', backend='torch')).shapes
    assert listed == [[name, ' x '.join(map(str, shape))] for name, shape in shapes.items()]


@pytest.mark.parametrize(('arguments', 'told'), [
    ([], 'which image? Give --image'),
    (['--image', 'cat', '--image', 'coffee'], 'one at a time? Give --image'),
    (['--image', 'cat', *LENET, '--out', '/proc/none'], '--out: got /proc/none, expected'),
    (['--image', 'nothing.png'], "--image: got 'nothing.png'"),
    (['--image', __file__], 'is not a picture'),
    (['--image', 'cat', '--architecture', 'lenet6'], 'Did you mean lenet5'),
    (['--image', 'cat', *LENET, '--layers', 'conv9'], 'near matches: conv'),
    (['--image', 'cat', *LENET, '--cam-layer', 'fc1'], 'without rows and columns'),
    (['--image', 'cat', *LENET, '--class', 'dog'], "--class: got 'dog'"),
    (['--image', 'cat', *LENET, '--channels', '77'], 'there is no channel 77'),
    (['--image', 'cat', *LENET, '--std', '0.5'], 'std is [0.5] without mean: give both'),
    (['--image', 'cat', *LENET, '--out', f'{__file__}/below'], 'exists and is none')])
def test_mistakes_are_told_in_one_line(arguments, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert written.out == ''
    assert written.err.startswith('visualize: ')
    assert written.err.count('\n') == 1
    assert told in written.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('arguments', 'told'), [
    (['--channels', 'first', '0'], "--channels is 'first 0', expected"),
    (['--channels', 'first 5000'], 'with N from 1 to 1024'),
    (['--channels', '1', 'x'], "--channels is '1 x', expected"),
    (['--normalize', '1', 'x'], "--normalize is '1 x', expected"),
    (['--normalize', '1', '2', '3'], "--normalize is '1 2 3', expected"),
    (['--normalize', '2', '1'], "--normalize is '2 1', expected"),
    (['--colormap', 'jett'], "--colormap: no colour map is called 'jett'; did you mean jet"),
    (['--count', '0'], '--count is 0, expected from 1 to 1024'),
    (['--scale', '-1'], '--scale is -1, expected a whole number')])
def test_how_maps_are_drawn_is_checked_before_anything_is_loaded(arguments, told, capsys):
    # Of a network that there is not, nothing is said.
    assert main(['--image', 'cat', '--architecture', 'lenet6', *arguments]) == 2
    assert told in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run([sys.executable, '-m', 'cnn_perception.tools.visualize', '--help'],
                          capture_output=True, text=True, check=True)
    assert '--cam-layer' in done.stdout


@pytest.mark.parametrize(('words', 'channels', 'count'), [
    (['first'], 'first', 20), (['strongest', '8'], 'strongest', 8), (['first 9'], 'first', 9),
    (['0, 5, 7'], (0, 5, 7), 1024), (['3', '3', '1'], (3, 1), 1024)])
def test_channels_are_written_as_for_the_node(words, channels, count):
    maps = read_maps(parser().parse_args(['--count', '20', '--channels', *words]))
    assert (maps.channels, maps.count) == (channels, count)


@pytest.mark.parametrize(('words', 'expected'), [
    (['layer'], 'layer'), (['0', '6'], (0.0, 6.0)), (['-1, 2.5'], (-1.0, 2.5)),
    (['0,6'], (0.0, 6.0))])
def test_ranges_are_written_as_for_the_node(words, expected):
    assert read_maps(parser().parse_args(['--normalize', *words])).normalize == expected


def test_pictures_of_an_earlier_run_are_told(tmp_path, capsys, image):
    (tmp_path / 'mine.png').touch()
    for layer, told in (('conv1', ''), ('conv2', 'layer_conv1.png')):
        assert main([*LENET, '--image', image, '--layers', layer, '--out', str(tmp_path)]) == 0
        error = capsys.readouterr().err
        assert ('of an earlier run' in error) is bool(told)
        assert told in error
        assert 'mine.png' not in error


@pytest.mark.parametrize('tool', ['visualize', 'describe', 'demo'])
@pytest.mark.parametrize('seconds', [0.0, 0.3, 0.6])
def test_an_interrupt_leaves_no_report(tool, seconds, tmp_path):
    arguments = {'visualize': ['--image', 'cat', '--out', str(tmp_path)],
                 'describe': ['--compare', 'densenet201', '--rounds', '1000'],
                 'demo': ['--out', str(tmp_path)]}[tool]
    process = subprocess.Popen(
        [sys.executable, '-m', f'cnn_perception.tools.{tool}', *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # Once Python itself has started, which has a report of its own.
    maps, library = Path(f'/proc/{process.pid}/maps'), 'rcl' if tool == 'demo' else 'libtorch'
    while process.poll() is None and library not in maps.read_text():
        time.sleep(0.01)
    time.sleep(seconds)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert 'Traceback' not in error
    assert process.returncode in (-signal.SIGINT, 130)


def test_a_huge_photograph_is_shown_as_large_as_displays_are(tmp_path):
    path = tmp_path / 'huge.png'
    cv2.imwrite(str(path), np.tile(photograph('cat')[:, :, ::-1], (1, 12, 1)))
    assert main([*LENET, '--image', str(path), '--layers', 'conv1', '--out', str(tmp_path)]) == 0
    for name in ('overlay', 'cam'):
        assert cv2.imread(str(tmp_path / f'{name}.png')).shape == (142, 2560, 3)
