"""The values that a layer's keys take: how each is checked, and how that is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .blocks import ACTIVATIONS
from .errors import ArchitectureError, shown

__all__ = [
    'ACTIVATION', 'BRANCH', 'CHANNELS', 'CLASSES', 'COUNT', 'FEATURES', 'Key', 'PADDING',
    'POOL_STRIDE', 'PROBABILITY', 'REDUCED', 'SIZE', 'STRIDE', 'choice', 'flag',
]

CLASSES = 'classes'
"""Stands for the number of classes wherever a number of features is written."""

_REQUIRED = object()
_MOST = 1_000_000

Check = Callable[[Any], Any]


@dataclass(frozen=True)
class Key:
    """
    One key of a layer.

    check returns a value in its normal form, None for one that will not do; expected says in
    words what will. A key without a default has to be given.
    """

    check: Check
    expected: str
    default: Any = _REQUIRED

    @property
    def required(self) -> bool:
        """Whether a layer has to give this key."""
        return self.default is _REQUIRED

    def read(self, value: Any) -> Any:
        """Return the value in its normal form, or raise ArchitectureError with the expectation."""
        read = self.check(value)
        if read is None:
            raise ArchitectureError(f'got {shown(value)}, expected {self.expected}')
        return read


def choice(*words: str, default: Any = _REQUIRED) -> Key:
    """Return a key that takes one of a few words."""
    return Key(lambda value: value if isinstance(value, str) and value in words else None,
               f'one of {", ".join(words)}', default)


def flag(default: bool) -> Key:
    """Return a key that takes true or false."""
    return Key(lambda value: value if isinstance(value, bool) else None, 'true or false', default)


def _integer(least: int) -> Check:
    def check(value: Any) -> Any:
        # True is an int to Python, and a mistake here.
        return value if type(value) is int and least <= value <= _MOST else None
    return check


def _pair(least: int) -> Check:
    one = _integer(least)

    def check(value: Any) -> Any:
        pair = list(value) if isinstance(value, (list, tuple)) else [value, value]
        good = len(pair) == 2 and all(one(size) is not None for size in pair)
        return tuple(pair) if good else None
    return check


def _or(word: str, check: Check) -> Check:
    return lambda value: value if isinstance(value, str) and value == word else check(value)


def _probability(value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value < 1 else None


def _reduced(value: Any) -> Any:
    if value == ():
        return value
    return _pair(1)(value) if isinstance(value, (list, tuple)) else None


_COUNT = 'a whole number from 1 to a million'

COUNT = Key(_integer(1), _COUNT)
SIZE = Key(_pair(1), f'{_COUNT}, or [height, width]')
STRIDE = Key(_pair(1), f'{_COUNT}, or [height, width]', 1)
POOL_STRIDE = Key(_or('kernel', _pair(1)), f'{_COUNT}, [height, width], or kernel', 'kernel')
PADDING = Key(_or('same', _pair(0)), 'a whole number of at least 0, [height, width], or same', 0)
CHANNELS = Key(_or('same', _integer(1)), f'{_COUNT}, or same')
FEATURES = Key(_or(CLASSES, _integer(1)), f'{_COUNT}, or {CLASSES}')
PROBABILITY = Key(_probability, 'a probability of at least 0 and below 1', 0.5)
ACTIVATION = choice(*ACTIVATIONS, default='relu')
BRANCH = Key(_integer(0), 'a whole number of channels', 0)
REDUCED = Key(_reduced, 'two channel counts, [reduced, outputs]', ())
