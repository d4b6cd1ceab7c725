"""The short form of a network: how a pattern unfolds and where it stops making sense."""

from __future__ import annotations

from typing import Any

from cnn_perception.architectures import ArchitectureError
from cnn_perception.architectures.network import build_network
from cnn_perception.architectures.pattern import expand, pattern_layers
import pytest


@pytest.mark.parametrize('pattern, words', [
    ('CONV', 'CONV'),
    ('CONV-RELU', 'CONV RELU'),
    ('(CONV-RELU)*2 - POOL', 'CONV RELU CONV RELU POOL'),
    ('[(CONV-RELU)*2 - POOL]*2', 'CONV RELU CONV RELU POOL CONV RELU CONV RELU POOL'),
    ('[(CONV - RELU)*N - POOL]*M - (FC-RELU)*K, SOFTMAX',
     'CONV RELU CONV RELU CONV RELU POOL FC RELU SOFTMAX'),
    ('conv -> Relu*2', 'CONV RELU RELU'),
    ('CONV \u2013 RELU \u2192 POOL', 'CONV RELU POOL'),
    ('CONV-(FC-RELU)*0', 'CONV'),
    ('((((CONV))))', 'CONV'),
    ('RELU*2*3', None),
])
def test_expand(pattern: str, words: str | None) -> None:
    if words is None:
        with pytest.raises(ArchitectureError, match=r'character 7: \* stands where the pattern'):
            expand(pattern)
    else:
        assert expand(pattern, {'N': 3, 'M': 1, 'K': 1}) == words.split()


@pytest.mark.parametrize('pattern, told', [
    ('', 'character 1: the end stands where a layer or a bracket should'),
    ('(CONV', r'character 6: the end stands where \) or - should'),
    ('[CONV)', r'character 6: \) stands where \] or - should'),
    ('CONV)', r'character 5: \) stands where the pattern should end'),
    ('CONV--POOL', 'character 6: - stands where a layer'),
    ('CONV*', 'character 6: the end stands where a number should'),
    ('CONV*X', r'character 6: X has no number: give it, as in repeat: \{X: 2\}'),
    ('CONV*-2', 'character 6: - stands where a number should'),
    ('CONV*99999', 'character 6: 99999 is no number of repetitions'),
    ('CONVOLVE-RELU', r'character 1: CONVOLVE is no layer\. Did you mean CONV'),
    ('CONV + POOL', r'character 5: \+ does not belong in a pattern'),
    ('(CONV*10000)*10000', 'more than 10000 layers'),
    ('CONV*00000000020000', 'character 6: 00000000020000 is no number of repetitions'),
    ('(' * 40 + 'CONV' + ')' * 40, 'nested deeper than 32 brackets'),
])
def test_patterns_that_mean_nothing(pattern: str, told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        expand(pattern)


@pytest.mark.parametrize('channels, expected', [
    (8, [8, 8, 8, 8]), ([8, 16], [8, 8, 16, 16]), ([1, 2, 3, 4], [1, 2, 3, 4])])
def test_channels(channels: Any, expected: list[int]) -> None:
    layers = pattern_layers('[(CONV-RELU)*2 - POOL]*2', channels)
    assert [one['channels'] for one in layers if one['type'] == 'conv'] == expected


@pytest.mark.parametrize('pattern, fc, features', [
    ('CONV', [], ['classes']),
    ('CONV-(FC-RELU)*2', 64, [64, 64, 'classes']),
    ('CONV-(FC-RELU)*2-FC-SOFTMAX', [64, 32], [64, 32, 'classes']),
    ('FC', [], ['classes']),
])
def test_fully_connected_layers(pattern: str, fc: Any, features: list[Any]) -> None:
    layers = pattern_layers(pattern, 8, fc)
    assert [one['features'] for one in layers if one['type'] == 'linear'] == features
    kinds = [one['type'] for one in layers]
    assert kinds.count('flatten') == 1
    assert kinds.index('flatten') + 1 == kinds.index('linear')


@pytest.mark.parametrize('pattern, channels, fc, told', [
    ('[(CONV-RELU)*2 - POOL]*2', [8, 16, 32], [],
     'channels: got 3 numbers, expected 2, one for each stretch between poolings, or 4, one for '
     'each CONV'),
    ('CONV-(FC-RELU)*2', 8, [64], 'fc: got 1 numbers, expected 2, one for each FC of the pattern '
     'but the last'),
])
def test_lists_of_another_length(pattern: str, channels: Any, fc: Any, told: str) -> None:
    with pytest.raises(ArchitectureError, match=told):
        pattern_layers(pattern, channels, fc)


def test_a_pattern_becomes_a_network() -> None:
    layers = pattern_layers('[(CONV-TANH)*N - POOL]*M - (FC-TANH)*K', [4, 6], 10,
                            {'N': 1, 'M': 2, 'K': 1}, kernel=5, pool='avg')
    network = build_network(layers, (1, 12, 12), 3)
    assert [type(part).__name__ for part in network] == [
        'Conv2d', 'Tanh', 'AvgPool2d', 'Conv2d', 'Tanh', 'AvgPool2d', 'Flatten', 'Linear', 'Tanh',
        'Linear']
    # 25 + 1 for each filter; the second layer reads 4 maps; 6 x 3 x 3 enter the first linear one.
    assert sum(one.numel() for one in network.parameters()) == (
        4 * 26 + 6 * (4 * 25 + 1) + 10 * (54 + 1) + 3 * 11)
