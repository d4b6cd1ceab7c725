"""Tapped networks are prepared before they are used, and given up when others took their place."""

from cnn_perception.classifier import Classifier
from cnn_perception.ros.prepared_taps import MOST, PreparedTaps
import pytest


@pytest.fixture
def classifier():
    return Classifier('lenet5', 'none', 'cpu', backend='torch')


def test_the_oldest_are_given_up(classifier):
    warnings = []
    prepared = PreparedTaps(classifier, warnings.append)
    sets = [(name,) for name in classifier.layer_names()[:MOST + 1]]
    assert prepared.ready(())
    for taps in sets[:MOST]:
        assert not prepared.ready(taps)
        prepared.prepare(taps)
        assert prepared.ready(taps)
    # Used again, so that the other one is the oldest.
    prepared.prepare(sets[0])
    prepared.prepare(sets[MOST])
    assert [prepared.ready(taps) for taps in sets] == [True, *[False] * (MOST - 1), True]
    assert set(classifier.backend._tapped) == {sets[0], sets[MOST]}
    assert warnings == []


def test_what_cannot_be_shown_is_said_once(classifier):
    warnings = []
    prepared = PreparedTaps(classifier, warnings.append)
    for _ in range(2):
        prepared.prepare(('conv9',))
        assert not prepared.ready(('conv9',))
    [warning] = warnings
    assert 'layers conv9 cannot be shown' in warning
    assert 'near matches: conv' in warning
