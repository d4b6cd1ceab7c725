"""YAML as people write it: a key that is there twice is an error, not the last one's value."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ['parse_yaml']

# `<<` may stand there for several mappings that are merged.
MERGE = 'tag:yaml.org,2002:merge'


def parse_yaml(text: str) -> Any:
    """
    Return what a YAML text holds, plain values only; yaml.YAMLError says what is wrong.

    A key that is there twice, which YAML 1.2 (3.2.1.3) does not allow, is wrong; PyYAML forgets
    the first value without a word.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        # Before anything is constructed: then what is merged into a mapping stands in it, too.
        check_keys(loader, node)
        return loader.construct_document(node)
    except (TypeError, ValueError, OverflowError) as error:  # not what a value's tag says
        raise yaml.YAMLError(str(error)) from error
    except RecursionError as error:
        raise yaml.YAMLError('nested too deeply') from error
    finally:
        loader.dispose()


def check_keys(loader: yaml.SafeLoader, root: yaml.Node) -> None:
    """Raise ConstructorError where a mapping below a node has a key twice."""
    left: list[yaml.Node] = [root]
    visited: set[int] = set()
    while left:
        node = left.pop()
        if id(node) in visited or isinstance(node, yaml.ScalarNode):
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
            continue
        left += [value for _, value in node.value]
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if (value := loader.construct_object(key)) in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key.value}' is there twice", key.start_mark)
                seen.add(value)
