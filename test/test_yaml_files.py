"""YAML files: what PyYAML reads, but no key twice."""

from cnn_perception.yaml_files import parse_yaml
import pytest
import yaml

ANCHORED = """
base: &base {x: 1, y: 2}
more: &more
  <<: *base
  x: 3
most:
  <<: [*more, *base]
  z: 4
again: *more
"""


@pytest.mark.parametrize('text', [
    '', 'a: 1', '[1, {a: b}]', ANCHORED, '&a [*a]', 'a: &a {b: *a}', '!!set {x, y}',
    '1: a\n"1": b'])
def test_what_pyyaml_reads(text):
    if '*a' in text:  # within itself
        assert str(parse_yaml(text)) == str(yaml.safe_load(text))
    else:
        assert parse_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize('text', [
    'a: 1\na: 2', '[{b: {c: 1, d: 2, c: 3}}]', '1: a\n0x1: b', '1: a\n1.0: b', '{a, "a"}',
    'a: {<<: {x: 1}, y: 1, y: 2}'])
def test_a_key_is_there_once(text):
    yaml.safe_load(text)
    with pytest.raises(yaml.YAMLError, match='is there twice'):
        parse_yaml(text)


@pytest.mark.parametrize('text', [
    'a: [', '!!map [1, 2]', '!!set [x]', '!!map ab', '!!python/object:os.system {}', '{[1]: 2}: 3',
    'a: 1\n---\nb: 2', '!!int ab'])
def test_other_mistakes_are_errors_of_yaml(text):
    with pytest.raises(yaml.YAMLError):
        parse_yaml(text)
