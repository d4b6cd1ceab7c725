"""The comparison of networks: its figures, its forms, its chart."""

from __future__ import annotations

import csv
from dataclasses import replace
import io
import json
from pathlib import Path
import struct
import time

from cnn_perception.architectures import ArchitectureError
from cnn_perception.architectures.chart import draw_chart, family_colours
from cnn_perception.architectures.comparison import compare, Comparison, measure_latencies
from matplotlib.colors import to_rgb
import pytest
import torch
from torch import nn


@pytest.fixture(scope='module')
def networks() -> Comparison:
    return compare(['alexnet', 'resnet50', 'vit_h_14', 'lenet5'], latency=False)


def test_figures_are_torchvisions(networks: Comparison) -> None:
    alexnet, resnet, transformer, lenet = networks.networks
    assert (alexnet.accuracy, alexnet.weights) == (56.522, 'IMAGENET1K_V1')
    assert (alexnet.parameters, alexnet.multiply_adds) == (61100840, 714188480)
    assert resnet.accuracy == 76.13
    # Its first weights are for 518 x 518; the network as it comes takes 224 x 224.
    assert (transformer.weights, transformer.accuracy) == ('IMAGENET1K_SWAG_LINEAR_V1', 85.708)
    assert (lenet.accuracy, lenet.weights, lenet.input_shape) == (None, None, (1, 32, 32))
    assert {row.latency_ms for row in networks.networks} == {None}
    assert networks.machine is None


def test_best_weights() -> None:
    best = compare(['resnet50'], latency=False, weights='best').networks[0]
    assert (best.weights, best.accuracy) == ('IMAGENET1K_V2', 80.858)


def test_latency_is_the_median_of_interleaved_runs() -> None:
    runs: list[str] = []

    class Sleeper(nn.Module):
        def __init__(self, name: str, seconds: float) -> None:
            super().__init__()
            self.name, self.seconds = name, seconds

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.shape == (1, 3, 4, 5)
            runs.append(self.name)
            # Three runs are not timed; the first timed one is slow too, which a mean would show.
            time.sleep(0.2 if runs.count(self.name) <= 4 else self.seconds)
            return image

    modules = [Sleeper('slow', 0.02), Sleeper('fast', 0.002)]
    slow, fast = measure_latencies(modules, [(3, 4, 5)] * 2, rounds=5)
    assert runs == ['slow', 'fast'] * 8
    assert 0.02 <= slow < 0.1
    assert 0.002 <= fast < slow


def test_measured_on_this_machine() -> None:
    measured = compare(['lenet5', 'lenet5_relu'], rounds=3)
    assert all(row.latency_ms and row.latency_ms > 0 for row in measured.networks)
    assert measured.machine is not None
    assert f'{torch.get_num_threads()} thread' in measured.machine
    assert measured.machine in measured.to_text()
    assert measured.machine in measured.to_markdown()


def test_forms(networks: Comparison) -> None:
    told = json.loads(networks.to_json())
    assert [one['network'] for one in told['networks']] == [
        'alexnet', 'resnet50', 'vit_h_14', 'lenet5']
    assert told['networks'][1]['accuracy'] == 76.13
    records = list(csv.DictReader(io.StringIO(networks.to_csv(), newline='')))
    assert records[0] == {
        'network': 'alexnet', 'input': '3x224x224', 'weights': 'IMAGENET1K_V1',
        'accuracy': '56.522', 'parameters': '61100840', 'multiply_adds': '714188480',
        'latency_ms': ''}
    own = replace(networks.networks[0], network='a,b "c".yaml')
    written = io.StringIO(replace(networks, networks=(own,)).to_csv(), newline='')
    assert next(csv.DictReader(written))['network'] == own.network
    lines = networks.to_text().splitlines()
    assert lines[0].split() == ['network', 'input', 'weights', 'top-1', '%', 'parameters',
                                'multiply-adds']
    assert lines[2].split()[-3:] == ['61,100,840', '714.2', 'M']
    table = [line for line in networks.to_markdown().splitlines() if line.startswith('|')]
    assert len(table) == 6
    assert len({line.count('|') for line in table}) == 1


def test_chart(networks: Comparison, tmp_path: Path) -> None:
    path = tmp_path / 'chart.png'
    assert draw_chart(networks, path) == ['lenet5']
    data = path.read_bytes()
    assert data.startswith(b'\x89PNG')
    assert struct.unpack('>II', data[16:24]) == (1650, 1050)


def test_colours_are_those_of_families() -> None:
    names = [f'{letter}net{size}' for letter in 'abcdefghijklmn' for size in (18, 50)]
    row = compare(['lenet5'], latency=False).networks[0]
    colours = family_colours([replace(row, network=name) for name in names])
    assert [colours[name] for name in names[::2]] == [colours[name] for name in names[1::2]]
    first = [colours[name] for name in names[:24:2]]
    assert len(set(first)) == 12
    # Beyond these, grey stands for all others.
    red, green, blue = to_rgb(colours[names[24]])
    assert red == green == blue
    assert colours[names[26]] == colours[names[24]] not in first


def test_a_network_named_twice_is_compared_once() -> None:
    compared = compare(['lenet5_relu', 'lenet5', 'lenet5_relu'], latency=False)
    assert [row.network for row in compared.networks] == ['lenet5_relu', 'lenet5']


def test_a_chart_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match='nothing to draw'):
        draw_chart(compare(['lenet5'], latency=False), tmp_path / 'chart.png')


def test_a_chart_nowhere(networks: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match='cannot be written'):
        draw_chart(networks, tmp_path / 'none' / 'chart.png')


@pytest.mark.parametrize('arguments, told', [
    ({'names': []}, 'got no network'), ({'names': ['lenet5'], 'rounds': 0}, 'rounds: got 0'),
    ({'names': ['lenet5'], 'weights': 'bst'}, 'Did you mean best'),
    ({'names': ['lenet55']}, 'Did you mean lenet5')])
def test_misuse(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        compare(**arguments)  # type: ignore[arg-type]
