"""The command line `describe`: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path
import subprocess
import sys

from cnn_perception.architectures import names
from cnn_perception.architectures.layer_table import describe
from cnn_perception.tools.describe import main
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('form', ['text', 'markdown', 'csv', 'json'])
def test_a_table_in_every_form(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['lenet5', '--format', form]) == 0
    written = capsys.readouterr()
    expected: str = getattr(describe('lenet5'), f'to_{form}')()
    assert written.out == (expected if expected.endswith('\n') else expected + '\n')
    assert written.err == ''


def test_input_depth_and_precision(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['resnet18', '--input', '3x480x640', '--depth', '1', '--precision', 'bfloat16',
                 '--format', 'json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert told['input_shape'] == [3, 480, 640]
    assert len(told['layers']) == 10
    assert told['totals']['weight_bytes'] == 2 * 11689512


def test_a_yaml_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / 'config' / 'architectures' / 'small_resnet.yaml')]) == 0
    assert 'parameters     175,258' in capsys.readouterr().out


@pytest.mark.parametrize('arguments, pattern', [
    (['--list'], '*'), (['--list', 'res*'], 'res*'), (['--list', 'timm/resnet1?'], 'timm/resnet1?')
])
def test_list(arguments: list[str], pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == names(pattern)


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / 'chart.png'
    assert main(['--compare', 'alexnet', 'resnet18', 'lenet5', '--no-latency', '--out',
                 str(chart), '--format', 'json']) == 0
    written = capsys.readouterr()
    assert [one['network'] for one in json.loads(written.out)['networks']] == [
        'alexnet', 'resnet18', 'lenet5']
    assert chart.stat().st_size > 10_000
    assert written.err == f'chart: {chart} (without lenet5: no published accuracy)\n'


def test_compare_without_anything_to_draw(tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    chart = tmp_path / 'chart.png'
    assert main(['--compare', 'lenet5', '--rounds', '1', '--out', str(chart)]) == 0
    written = capsys.readouterr()
    assert written.out.splitlines()[2].split()[:6] == ['lenet5', '1', 'x', '32', 'x', '32']
    assert 'no chart' in written.err
    assert not chart.exists()


@pytest.mark.parametrize('arguments, told', [
    (['resnet19'], 'Did you mean resnet18'),
    (['lenet5', '--input', '3x32x32'], 'does not take an input of 3 x 32 x 32'),
    (['lenet5', '--input', '32x32'], "--input: got '32x32'"),
    (['lenet5', '--input', '1x1x' + '9' * 5000], '--input: got'),
    (['lenet5', '--input', '1x2000000x32'], 'from 1 to 1048576'),
    (['~nosuchuser/net.yaml'], '~nosuchuser/net.yaml: '),
    (['net\0.yaml'], 'embedded null '),
    (['lenet5', '--depth', '0'], 'depth: got 0'),
    (['none.yaml'], 'none.yaml: cannot be read'),
    (['--list', 'nothing*'], "no network matches 'nothing*'"),
    (['--compare', 'alexnet', '--out', 'no/such/folder/chart.png'], '--out: got'),
    (['--compare', 'alexnet', '--out', 'chart.pdf'], 'expected a .png file'),
])
def test_mistakes(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    written = capsys.readouterr()
    assert written.out == ''
    assert written.err.startswith('describe: ')
    assert told in written.err


@pytest.mark.parametrize('arguments', [
    [], ['lenet5', '--format', 'xml'], ['lenet5', '--list'], ['--list', '*', '--compare', 'a'],
    ['lenet5', '--compare', 'alexnet'], ['lenet5', '--precision', 'int4'],
    ['--compare', 'lenet5', '--depth', '1'], ['--compare', 'lenet5', '--precision', 'int8'],
    ['--list', 'lenet*', '--format', 'json'], ['--list', 'lenet*', '--input', '1x2x3']])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert 'usage: describe' in capsys.readouterr().err


def test_as_a_module_into_a_closed_pipe() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, '-m', 'cnn_perception.tools.describe', 'linear'], cwd=ROOT, text=True,
        stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, '')


@pytest.mark.parametrize('option', [['--out', 'chart.png'], ['--no-latency'], ['--rounds', '0'],
                                    ['--weights', 'best']])
def test_options_of_the_comparison_are_refused_without_one(
        option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(['lenet5', *option])
    assert ended.value.code == 2
    assert f'{option[0]} belongs to --compare' in capsys.readouterr().err
