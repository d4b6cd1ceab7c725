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
    for taps in sets[:MOST]:
        assert prepared.usable(taps) == ()
        assert not prepared.failed(taps)
        prepared.prepare(lambda taps=taps: taps)
        assert prepared.usable(taps) == taps
        assert not prepared.failed(taps)
    # Used again, so that the other one is the oldest.
    assert prepared.usable(sets[0]) == sets[0]
    prepared.prepare(lambda: sets[0])
    prepared.prepare(lambda: sets[MOST])
    assert [prepared.usable(taps) for taps in sets] == [sets[0], *[()] * (MOST - 1), sets[MOST]]
    assert set(classifier.backend._tapped) == {sets[0], sets[MOST]}
    assert warnings == []


def test_what_cannot_be_shown_is_said_once(classifier):
    warnings = []
    prepared = PreparedTaps(classifier, warnings.append)
    for _ in range(2):
        prepared.prepare(lambda: ('conv9',))
        assert prepared.usable(('conv9',)) == ()
        assert prepared.failed(('conv9',))
    [warning] = warnings
    assert 'layers conv9 cannot be shown' in warning
    assert 'near matches: conv' in warning


def test_an_engine_that_fails_is_not_asked_again(classifier, monkeypatch):
    warnings, asked = [], []
    prepared = PreparedTaps(classifier, warnings.append)

    def predict(frames, taps=()):
        asked.append(taps)
        raise KeyError('out of memory')
    monkeypatch.setattr(classifier, 'predict', predict)
    for _ in range(2):
        prepared.prepare(lambda: ('conv1',))
    assert prepared.failed(('conv1',))
    assert len(warnings) == len(asked) == 1


def test_what_is_seen_goes_on_while_something_else_is_prepared(classifier):
    prepared = PreparedTaps(classifier, print)
    assert prepared.usable(()) == ()
    assert not prepared.failed(())
    prepared.prepare(lambda: ('conv1', 'conv2', 'fc1'))
    # A viewer left: what is there has all that is wanted.
    assert prepared.usable(('conv1', 'fc1')) == ('conv1', 'conv2', 'fc1')
    prepared.prepare(lambda: ('conv1', 'fc1'))
    assert prepared.usable(('conv1', 'fc1')) == ('conv1', 'fc1')
    # A viewer came: the others keep theirs.
    assert prepared.usable(('conv1', 'conv2', 'fc2')) == ('conv1', 'conv2', 'fc1')
    assert prepared.usable(('fc2',)) == ()
    assert prepared.usable(()) == ()


def test_what_serves_meanwhile_is_not_given_up(classifier):
    prepared = PreparedTaps(classifier, print)
    prepared.prepare(lambda: ('conv1', 'fc1'))
    prepared.prepare(lambda: ('conv2',))
    # The oldest has most of what is wanted now, and is running.
    assert prepared.usable(('conv1', 'fc1', 'fc2')) == ('conv1', 'fc1')
    prepared.prepare(lambda: ('conv1', 'fc1', 'fc2'))
    assert set(classifier.backend._tapped) == {('conv1', 'fc1'), ('conv1', 'fc1', 'fc2')}


def test_what_serves_others_by_the_end_is_not_given_up(classifier):
    """While one set is compiled, a viewer may have come to want another one that is ready."""
    warnings = []
    prepared = PreparedTaps(classifier, warnings.append)
    for taps in (('conv1',), ('conv2',)):
        prepared.prepare(lambda taps=taps: taps)
    wanted = iter([('fc1',), ('conv1',)])
    prepared.prepare(lambda: next(wanted))
    assert prepared.usable(('conv1',)) == ('conv1',)
    assert prepared.usable(('fc1',)) == ('fc1',)
    assert prepared.usable(('conv2',)) == ()
    assert not warnings


def test_what_runs_meanwhile_is_given_up_later(classifier):
    prepared = PreparedTaps(classifier, print)
    for taps in (('conv1',), ('conv2',)):
        prepared.prepare(lambda taps=taps: taps)
    assert prepared.usable(('conv1',)) == ('conv1',)
    wanted = iter([('fc1',), ('conv2',)])
    prepared.prepare(lambda: next(wanted))
    assert set(classifier.backend._tapped) == {('conv1',), ('conv2',), ('fc1',)}
    assert not prepared.is_settled(('fc1',))
    assert prepared.usable(('fc1',)) == ('fc1',)
    prepared.prepare(lambda: ('fc1',))
    assert set(classifier.backend._tapped) == {('conv2',), ('fc1',)}
    assert prepared.is_settled(('fc1',))
