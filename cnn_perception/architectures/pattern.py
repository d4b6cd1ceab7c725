"""
The short form of a classic network: `[(CONV-RELU)*2 - POOL]*3 - (FC-RELU)*1`.

Words joined by `-` follow each other, brackets group, `*` repeats by a number or by a letter whose
number is given beside it, as in the lectures' `[(CONV-RELU)*N - POOL]*M - (FC-RELU)*K`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import re
from typing import Any

from .errors import ArchitectureError, did_you_mean, shown

__all__ = ['WORDS', 'expand', 'pattern_layers']

WORDS: dict[str, str] = {
    'CONV': 'conv', 'POOL': 'pool', 'FC': 'linear', 'RELU': 'relu', 'TANH': 'tanh',
    'SIGMOID': 'sigmoid', 'BN': 'batchnorm', 'DROPOUT': 'dropout', 'SOFTMAX': ''}
"""The words of a pattern and the layer types they stand for; the softmax is the classifier's."""

_TOKEN = re.compile(r'\s*([A-Za-z]+|\d+|->|[-\[\]()*,\u2013\u2192])')
_JOINTS = ('-', '->', ',', '\u2013', '\u2192')
_CLOSING = {'(': ')', '[': ']'}
_MOST_WORDS = 10_000
_MOST_DEPTH = 32


class _Reader:
    """Reads a pattern from left to right; each method leaves `position` behind what it read."""

    def __init__(self, pattern: str, repeats: Mapping[str, int]) -> None:
        self.pattern = pattern
        self.repeats = repeats
        self.tokens: list[tuple[str, int]] = []
        self.position = 0
        at = 0
        while at < len(pattern.rstrip()):
            match = _TOKEN.match(pattern, at)
            if match is None:
                raise self.error('does not belong in a pattern', pattern[at:].strip()[:1], at)
            self.tokens.append((match.group(1), match.start(1)))
            at = match.end()

    def error(self, problem: str, token: str | None = None, at: int | None = None) -> Exception:
        if at is None:
            token, at = self.tokens[self.position] if self.position < len(self.tokens) else (
                'the end', len(self.pattern))
        return ArchitectureError(
            f'pattern {shown(self.pattern)}, character {at + 1}: {token} {problem}. Write it like '
            '[(CONV-RELU)*2 - POOL]*3 - (FC-RELU)*1')

    def next_is(self, *tokens: str) -> bool:
        return self.position < len(self.tokens) and self.tokens[self.position][0] in tokens

    def sequence(self, depth: int = 0) -> list[str]:
        words = self.item(depth)
        while self.next_is(*_JOINTS):
            self.position += 1
            words += self.item(depth)
            self.limit(len(words))
        return words

    def item(self, depth: int) -> list[str]:
        if self.next_is(*_CLOSING):
            opening = self.tokens[self.position][0]
            if depth >= _MOST_DEPTH:
                raise self.error(f'is nested deeper than {_MOST_DEPTH} brackets')
            self.position += 1
            words = self.sequence(depth + 1)
            if not self.next_is(_CLOSING[opening]):
                raise self.error(f'stands where {_CLOSING[opening]} or - should')
        elif self.position < len(self.tokens) and self.tokens[self.position][0].isalpha():
            word = self.tokens[self.position][0]
            if word.upper() not in WORDS:
                raise self.error(f'is no layer.{did_you_mean(word, WORDS)} The layers are '
                                 f'{", ".join(WORDS)}')
            words = [word.upper()]
        else:
            raise self.error('stands where a layer or a bracket should')
        self.position += 1
        if self.next_is('*'):
            self.position += 1
            count = self.count()
            self.limit(len(words) * count)
            words = words * count
        return words

    def count(self) -> int:
        if self.position >= len(self.tokens):
            raise self.error('stands where a number should')
        token = self.tokens[self.position][0]
        if token.isdigit():
            # Of a number with too many digits the first ones are too many repetitions, too.
            count = int(token.lstrip('0')[:9] or '0')
        elif token in self.repeats:
            count = self.repeats[token]
        else:
            raise self.error(f'has no number: give it, as in repeat: {{{token}: 2}}'
                             if token.isalpha() else 'stands where a number should')
        if not 0 <= count <= _MOST_WORDS:
            raise self.error(f'is no number of repetitions: give 0 to {_MOST_WORDS}')
        self.position += 1
        return count

    def limit(self, words: int) -> None:
        if words > _MOST_WORDS:
            raise ArchitectureError(f'pattern {shown(self.pattern)}: gives more than '
                                    f'{_MOST_WORDS} layers: repeat less')


def expand(pattern: str, repeats: Mapping[str, int] | None = None) -> list[str]:
    """
    Return the words of a pattern in order, capital, with all repetitions written out.

    repeats gives the numbers of letters, {'N': 2}. Raises ArchitectureError with the character
    at which the pattern stops making sense.
    """
    reader = _Reader(pattern, repeats or {})
    words = reader.sequence()
    if reader.position < len(reader.tokens):
        raise reader.error('stands where the pattern should end or go on with -')
    return words


def pattern_layers(pattern: str, channels: int | Sequence[int], fc: int | Sequence[int] = (),
                   repeats: Mapping[str, int] | None = None, kernel: Any = 3,
                   pool: str = 'max') -> list[dict[str, Any]]:
    """
    Return the layers of a pattern, for `network.build_network`.

    channels are those of the convolutions: one number for all, or a list with one for each, or
    with one for each stretch between two poolings. fc likewise gives the features of the hidden
    fully-connected layers. Convolutions have `kernel` and padding same, pooling is 2 x 2. The
    layer that gives the classes is the pattern's last word, if that is FC, or is added. Raises
    ArchitectureError for a pattern that does not parse or lists of another length.
    """
    words = [word for word in expand(pattern, repeats) if WORDS[word]]
    if not words or words[-1] != 'FC':
        words.append('FC')
    stages: list[int] = []
    stage = 0
    for word in words:
        if word == 'CONV':
            stages.append(stage)
        elif word == 'POOL' and stages and stages[-1] == stage:
            stage += 1
    filters = _spread('channels', 'CONV', channels, stages)
    hidden = _spread('fc', 'FC', fc, list(range(words.count('FC') - 1)))
    features: list[Any] = [*hidden, 'classes']
    layers: list[dict[str, Any]] = []
    flat = False
    for word in words:
        if word == 'FC' and not flat:
            layers.append({'type': 'flatten'})
            flat = True
        layer: dict[str, Any] = {'type': WORDS[word]}
        if word == 'CONV':
            layer.update(channels=filters.pop(0), kernel=kernel, padding='same')
        elif word == 'POOL':
            layer.update(kind=pool)
        elif word == 'FC':
            layer.update(features=features.pop(0))
        layers.append(layer)
    return layers


def _spread(key: str, word: str, given: int | Sequence[int], stages: list[int]) -> list[int]:
    """Return one number for each layer, from one for all, one for each or one for each stage."""
    if not isinstance(given, (list, tuple)):
        return [given] * len(stages)  # type: ignore[list-item]
    if len(given) == len(stages):
        return list(given)
    count = len(set(stages))
    if len(given) == count:
        order = sorted(set(stages))
        return [given[order.index(stage)] for stage in stages]
    either = f'{count}, one for each stretch between poolings, or ' if key == 'channels' else ''
    raise ArchitectureError(
        f'{key}: got {len(given)} numbers, expected {either}{len(stages)}, one for each {word} '
        f'of the pattern{"" if word == "CONV" else " but the last, which gives the classes"}')
