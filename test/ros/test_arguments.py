"""Arguments that ROS passes over are answered before a node starts."""

import subprocess
import sys

from cnn_perception.ros.arguments import answered, outside
from cnn_perception.ros.parameters import CLASSIFIER, IMAGE_SOURCE
import pytest


def run(*arguments):
    return subprocess.run([sys.executable, '-m', 'cnn_perception.ros.start', *arguments],
                          capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize('node, table', [
    ('classifier', CLASSIFIER), ('image_source', IMAGE_SOURCE)])
def test_help_lists_the_parameters(node, table):
    result = run(node, '--help')
    assert result.returncode == 0, result.stderr
    assert f'usage: ros2 run cnn_perception {node} ' in result.stdout
    text = ' '.join(result.stdout.split())
    for row in table:
        assert f' {row.name}:=' in text
        assert ' '.join(row.description.split()) in text


@pytest.mark.parametrize('arguments', [
    ['--architecture', 'resnet18'], ['architecture:=resnet18'], ['--architecture:=resnet18'],
    ['__params:=a.yaml'],
    ['--ros-args', '-r', '__ns:=/x', '--', 'resnet18']])
def test_what_a_node_would_not_read_is_refused(arguments):
    result = run('classifier', *arguments)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    name = 'architecture' if 'architecture' in arguments[0] else 'autostart'
    assert f'expected parameters as in --ros-args -p {name}:=VALUE; --help lists' in line
    assert arguments[-1].lstrip('-') in line or arguments[0] in line


def test_what_says_nothing_or_is_read_lets_a_node_start():
    assert answered('classifier', []) is None
    assert answered('classifier', ['', '--', '__node:=x', '__name:=x', '__ns:=/x',
                                   'image:=/cam']) is None
    assert answered('classifier', ['--ros-args', '-p', 'a:=-h', '--log-level', 'debug']) is None


def test_help_has_a_short_name(capsys):
    assert answered('image_source', ['-h']) == 0
    assert capsys.readouterr().out.startswith('usage: ros2 run cnn_perception image_source ')


@pytest.mark.parametrize('name', [[], ['camera']])
def test_a_node_that_there_is_not_is_refused(name):
    result = run(*name)
    assert result.returncode == 2
    assert result.stderr == (
        f"start: got '{''.join(name)}', expected classifier or image_source\n")


@pytest.mark.parametrize('missing', ['torch', 'yaml'])
def test_a_package_that_is_missing_is_one_line(missing):
    # Where it is nowhere, Python raises the same error.
    program = (f"import sys; sys.modules['{missing}'] = None; sys.argv[1:] = []; "
               'from cnn_perception.ros.start import classifier; sys.exit(classifier())')
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                            timeout=60)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.startswith(f'classifier: {sys.executable}, with which this node was built, has no '
                           f'{missing}. ')
    assert 'python3 -m colcon build' in line


@pytest.mark.parametrize('arguments, expected', [
    ([], []), (['--ros-args', '-p', 'a:=1'], []), (['a', '--ros-args', '-p', 'a:=1'], ['a']),
    (['--ros-args', '-p', 'a:=1', '--', 'b', '--'], ['b', '--'])])
def test_where_ros_reads(arguments, expected):
    assert outside(arguments) == expected
