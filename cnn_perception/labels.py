"""Class names: ImageNet's, a file's, or plain numbers; always unique and of the right count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

from cnn_perception.yaml_files import parse_yaml
import yaml

__all__ = ['find_class', 'imagenet_names', 'load_labels', 'make_unique', 'numbered']

SUFFIXES = ('.txt', '.json', '.yaml', '.yml')


def imagenet_names() -> tuple[str, ...]:
    """Return the 1000 class names of ImageNet-1k, in the order of the networks' outputs."""
    from cnn_perception.quick_imports import torchvision  # still slow, and not always needed
    return make_unique(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta['categories'])


def numbered(count: int) -> tuple[str, ...]:
    """Return `class_0` ... for a network whose classes nobody named."""
    return tuple(f'class_{index}' for index in range(count))


def make_unique(names: Sequence[str]) -> tuple[str, ...]:
    """
    Append the class index to every name that is used twice.

    A bird and a machine are both a `crane`; a consumer that reads names from a topic could not
    tell them apart. Names used once stay as they are.
    """
    counts = Counter(names)
    unique = [name if counts[name] == 1 else f'{name} ({index})'
              for index, name in enumerate(names)]
    clash = [name for name, count in Counter(unique).items() if count > 1]
    if clash:
        raise ValueError(f"class name '{clash[0]}' stays ambiguous; rename that class")
    return tuple(unique)


def load_labels(path: str | Path, count: int) -> tuple[str, ...]:
    """
    Read class names from a file, one for each of the network's `count` outputs.

    `.txt`: one name a line, in order. `.json`, `.yaml`: a list, or a mapping from index to name,
    or from name to index, as torchvision's `class_to_idx` is; also below `names` or `id2label`.
    Raises ValueError where the file does not name exactly `count` classes.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"labels: no file '{path}'; give a .txt with one class name a line, "
                         'or a .json or .yaml list')
    try:
        names = parse(path)
    except UnicodeDecodeError as error:
        raise ValueError(f"labels: '{path}' is not encoded in UTF-8 ({error}): save it again so"
                         ) from error
    except (json.JSONDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"labels: '{path}' cannot be read as {path.suffix} text: {error}"
                         ) from error
    if len(names) != count:
        raise ValueError(f"labels: '{path}' names {len(names)} classes, but the network has "
                         f'{count} outputs; both must come from the same training')
    return make_unique(names)


def find_class(wanted: str, names: Sequence[str]) -> int:
    """Return the index of a class that is given by its name or index; ValueError otherwise."""
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    near = [name for name in names if wanted and wanted.lower() in name.lower()][:3]
    raise ValueError(f"got '{wanted}', expected a class name or an index from 0 to "
                     f'{len(names) - 1}'
                     + (f'; near matches: {", ".join(near)}' if near else ''))


def parse(path: Path) -> list[str]:
    """Return the names that a label file holds, in index order."""
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"labels: '{path}' ends in '{path.suffix}', expected one of "
                         + ', '.join(SUFFIXES))
    text = path.read_text(encoding='utf-8-sig')
    if kind == '.txt':
        # Lines only: names may hold Unicode's other separators.
        content: object = text.rstrip().split('\n')
    elif kind == '.json':
        # Of two names of one index the first would be forgotten.
        content = json.loads(text, object_pairs_hook=lambda pairs: with_each(pairs, path))
    else:
        content = parse_yaml(text)
    # Where YOLO's trainings and Hugging Face's keep them, among other things.
    for key in ('names', 'id2label'):
        if isinstance(content, dict) and isinstance(content.get(key), (list, dict)):
            content = content[key]
    if isinstance(content, dict):
        swapped = (all(type(index) is int for index in content.values())
                   and not all(str(name).isdecimal() for name in content))
        if swapped:
            content = with_each([(index, name) for name, index in content.items()], path)
        try:
            pairs = [(index_of(index), name) for index, name in content.items()]
        except ValueError as error:
            raise ValueError(f"labels: keys of '{path}' must be class indices, or the names with "
                             f'their indices as values: {error}') from error
        by_index = with_each(pairs, path)
        if sorted(by_index) != list(range(len(by_index))):
            raise ValueError(f"labels: indices of '{path}' must run from 0 without gaps")
        content = [by_index[index] for index in range(len(by_index))]
        # Keras' list of ImageNet has an identifier before each name.
        if all(isinstance(entry, list) and len(entry) == 2 for entry in content):
            content = [name for _, name in content]
    if not isinstance(content, list):
        raise ValueError(f"labels: '{path}' holds a {type(content).__name__}, expected a list of "
                         'names or a mapping from index to name')
    return [checked(index, name, path) for index, name in enumerate(content)]


def index_of(key: object) -> int:
    """Read a class index, which JSON has as a text; ValueError for what is none."""
    # YAML reads `no` as False, and makes fractions.
    if type(key) is int or (isinstance(key, str) and key.isdecimal()):
        return int(key)
    raise ValueError(f'got {key!r}')


def with_each(pairs: Sequence[tuple[Any, Any]], path: Path) -> dict[Any, Any]:
    """Return pairs as a mapping; ValueError where a key is there twice."""
    counts = Counter(key for key, _ in pairs)
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        raise ValueError(f"labels: '{path}' has '{twice[0]}' twice")
    return dict(pairs)


def checked(index: int, name: object, path: Path) -> str:
    """Return a class name; ValueError where it is empty, or was made something else of."""
    # YAML reads `no` as False and `1.10` as 1.1: what was meant is not known any more.
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        quoted = '' if path.suffix.lower() == '.json' else '; in YAML, write it in quotes'
        raise ValueError(f"labels: class {index} of '{path}' is {name!r}, expected a name{quoted}")
    if not str(name).strip():
        raise ValueError(f"labels: class {index} of '{path}' has no name; expected one for each")
    return str(name).strip()
