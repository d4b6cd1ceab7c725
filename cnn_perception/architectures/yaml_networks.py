"""
Networks written in a YAML file: read, checked key by key, and built.

    input: [1, 32, 32]        # channels, height, width
    classes: 10
    layers:                   # or `pattern`, or `base`
      - conv: {channels: 6, kernel: 5}
      - tanh
      - flatten
      - linear: classes

Only plain YAML is read, no key twice, and no number of layers or of parameters that a file
asks for is built before it is checked. docs/architectures.md explains every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import re
from typing import Any

from cnn_perception.yaml_files import parse_yaml
from torch import nn
import yaml

from . import registry
from .errors import ArchitectureError, did_you_mean, shown
from .network import build_network
from .pattern import pattern_layers
from .variation import Variation, vary

__all__ = ['load', 'read_input_shape']

_FORMS = ('layers', 'pattern', 'base')
_PATTERN_KEYS = ('channels', 'fc', 'repeat', 'kernel', 'pool')
_KEYS = ('description', 'input', 'classes', 'options', *_FORMS, *_PATTERN_KEYS)
_OPTIONS = tuple(Variation.__dataclass_fields__)
_MOST_BYTES = 1_000_000
_LARGEST = 1_000_000
# YAML takes a bracket at the beginning for a list, and stumbles over what follows it.
_BARE_PATTERN = re.compile(r'^pattern:\s*[\[(]', re.MULTILINE)


def load(path: Path, num_classes: int | None = None,
         variation: Variation | None = None) -> nn.Module:
    """
    Build the network of a YAML file, untrained.

    It takes (N, C, H, W) float32 as `input` says and returns (N, classes) scores before the
    softmax. num_classes overrides `classes`, variation `options`. Raises ArchitectureError that
    begins with the path, for a file that cannot be read and for a network that cannot be built.
    """
    try:
        content = _read(path)
        classes = num_classes or content.get('classes')
        chosen = variation if variation is not None else _variation(content.get('options', {}))
        if 'base' in content:
            return registry.build(content['base'], classes, chosen)
        if classes is None:
            raise ArchitectureError('the key classes is missing: give the number of classes')
        layers = content['layers'] if 'layers' in content else _from_pattern(content)
        return build_network(vary(layers, chosen), tuple(content['input']), classes)
    except ArchitectureError as error:
        raise ArchitectureError(f'{path}: {error}') from error


def read_input_shape(path: Path) -> tuple[int, int, int]:
    """Return the (C, H, W) that a YAML network takes; raises ArchitectureError as `load` does."""
    try:
        content = _read(path)
        if 'base' in content:
            return registry.OWN[content['base']].input_shape
    except ArchitectureError as error:
        raise ArchitectureError(f'{path}: {error}') from error
    channels, height, width = content['input']
    return channels, height, width


def _read(path: Path) -> dict[str, Any]:
    """Return the checked top level of a file: its form, and input unless it has a base."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ArchitectureError(f'is larger than {_MOST_BYTES} bytes, which no network is')
        text = path.read_text(encoding='utf-8')
        content = parse_yaml(text)
    except OSError as error:
        raise ArchitectureError(f'cannot be read ({error.strerror}): give the path of a YAML file '
                                'with a network, as in config/architectures') from error
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f'is not YAML: {error}') from error
    except yaml.YAMLError as error:
        quotes = ' (put the pattern in quotes)' if _BARE_PATTERN.search(text) else ''
        raise ArchitectureError(f'is not YAML{quotes}: {error}') from error
    if not isinstance(content, Mapping):
        raise ArchitectureError(f'got {shown(content)}, expected the keys input, classes and '
                                'layers')
    for key in content:
        if key not in _KEYS:
            raise ArchitectureError(f'unknown key {shown(key)}.{did_you_mean(str(key), _KEYS)} '
                                    f'The keys are {", ".join(_KEYS)}')
    forms = [form for form in _FORMS if form in content]
    if len(forms) != 1:
        raise ArchitectureError(f'got {" and ".join(forms) or "none"} of {", ".join(_FORMS)}, '
                                'expected one of them')
    misplaced = [key for key in _PATTERN_KEYS if key in content and 'pattern' not in content]
    if misplaced:
        raise ArchitectureError(f'{", ".join(misplaced)}: belongs to a pattern; give it to the '
                                'layers themselves')
    _check_values(content)
    return dict(content)


def _check_values(content: Mapping[str, Any]) -> None:
    classes = content.get('classes')
    if 'classes' in content and not _counts([classes]):
        raise ArchitectureError(f'classes: got {shown(classes)}, expected a whole number of at '
                                'least 1')
    shape = content.get('input')
    if 'base' in content:
        if shape is not None:
            raise ArchitectureError('input: a network with a base takes what that takes, so leave '
                                    'it out')
        base = content['base']
        if not isinstance(base, str) or base not in registry.OWN:
            near = did_you_mean(base, registry.OWN) if isinstance(base, str) else ''
            raise ArchitectureError(f'base: got {shown(base)}, expected one of the lecture '
                                    f'networks, as options apply to no others.{near}')
    elif not isinstance(shape, list) or len(shape) != 3 or not _counts(shape):
        raise ArchitectureError(f'input: got {shown(shape)}, expected [channels, height, width]')
    if 'layers' in content and not isinstance(content['layers'], list):
        raise ArchitectureError(f'layers: got {shown(content["layers"])}, expected a list, each '
                                'line beginning with -')


def _counts(values: list[Any]) -> bool:
    return all(type(value) is int and 1 <= value <= _LARGEST for value in values)


def _variation(options: Any) -> Variation:
    if not isinstance(options, Mapping):
        raise ArchitectureError(f'options: got {shown(options)}, expected keys of '
                                f'{", ".join(_OPTIONS)}')
    for key in options:
        if key not in _OPTIONS:
            raise ArchitectureError(f'options: unknown key {shown(key)}.'
                                    f'{did_you_mean(str(key), _OPTIONS)} The keys are '
                                    f'{", ".join(_OPTIONS)}')
    try:
        return Variation(**options)
    except ArchitectureError as error:
        raise ArchitectureError(f'options: {error}') from error


def _from_pattern(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    pattern = content['pattern']
    if not isinstance(pattern, str):
        raise ArchitectureError(f'pattern: got {shown(pattern)}, expected text such as '
                                "'[(CONV-RELU)*2 - POOL]*3 - (FC-RELU)*1', in quotes")
    repeats = content.get('repeat', {})
    if not isinstance(repeats, Mapping) or not all(
            isinstance(letter, str) and type(count) is int for letter, count in repeats.items()):
        raise ArchitectureError(f'repeat: got {shown(repeats)}, expected a whole number for each '
                                'letter, as in {N: 2, M: 3}')
    return pattern_layers(pattern, _sizes(content, 'channels', 32), _sizes(content, 'fc', []),
                          repeats, content.get('kernel', 3), content.get('pool', 'max'))


def _sizes(content: Mapping[str, Any], key: str, default: Any) -> Any:
    given = content.get(key, default)
    if not _counts(given if isinstance(given, list) else [given]):
        raise ArchitectureError(f'{key}: got {shown(given)}, expected a whole number, or a list '
                                'of them')
    return given
