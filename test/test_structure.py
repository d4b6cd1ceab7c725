"""What holds for the code as a whole."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'cnn_perception'
ROS = {'rclpy', 'cv_bridge', 'rcl_interfaces', 'ament_index_python', 'builtin_interfaces',
       'launch', 'launch_ros'}
MAY_USE_ROS = {PACKAGE / 'tools' / 'demo.py', PACKAGE / 'tools' / 'demo_listener.py'}
MODULES = sorted(path for path in PACKAGE.rglob('*.py'))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize('path', [
    path for path in MODULES if PACKAGE / 'ros' not in path.parents and path not in MAY_USE_ROS],
    ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_ros_knows_ros(path):
    for name in imported(path):
        top = name.partition('.')[0]
        assert top not in ROS
        assert not top.endswith('_msgs')
        assert not name.startswith('cnn_perception.ros')


def test_the_classifier_loads_without_ros():
    code = ('import sys\n'
            "for name in ('rclpy', 'sensor_msgs', 'vision_msgs', 'cv_bridge'):\n"
            '    sys.modules[name] = None\n'
            'import cnn_perception.classifier\n')
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
