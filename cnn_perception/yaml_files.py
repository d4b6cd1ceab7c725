"""YAML as people write it: a key that is there twice is an error, not the last one's value."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ['parse_yaml']


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which forgets the first of two values of a key without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping; ConstructorError where a key is there twice (YAML 1.2, 3.2.1.3)."""
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            # `<<` may stand there for several mappings that are merged.
            if not isinstance(key, yaml.ScalarNode) or key.tag == 'tag:yaml.org,2002:merge':
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is there twice", key.start_mark)
            seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds, plain values only; yaml.YAMLError says what is wrong."""
    return yaml.load(text, _Loader)  # a safe loader
