"""What holds for the code as a whole."""

import ast
from pathlib import Path
import re
import subprocess
import sys

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'cnn_perception'
ROS = {'rclpy', 'cv_bridge', 'rcl_interfaces', 'ament_index_python', 'builtin_interfaces',
       'launch', 'launch_ros'}
MAY_USE_ROS = {PACKAGE / 'tools' / 'demo.py', PACKAGE / 'tools' / 'demo_listener.py'}
MODULES = sorted(path for path in PACKAGE.rglob('*.py'))


LONGEST = 250
DESIGN = (PACKAGE.parent / 'docs' / 'design.md').read_text()
# What each holds. It may import those before it, of this package, and no other.
HOLDS = dict(re.findall(r'^\| `(\w+)` \| (.*) \|$', DESIGN, re.MULTILINE))
ORDER = tuple(HOLDS)


def imported(path):
    """Return the full names of what a module imports."""
    folder = ['cnn_perception', *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[:len(folder) + 1 - node.level] if node.level else []
            module = '.'.join([*base, *filter(None, [node.module])])
            yield module
            yield from (f'{module}.{alias.name}' for alias in node.names)


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


def test_make_runs_all_tests_that_need_a_gpu():
    tests = PACKAGE.parent / 'test'
    marked = {str(path.relative_to(PACKAGE.parent)) for path in tests.rglob('test_*.py')
              if 'pytest.mark.' + 'gpu' in path.read_text()}
    [listed] = re.findall(r'^GPU_TESTS := (.*)$', (PACKAGE.parent / 'Makefile').read_text(),
                          re.MULTILINE)
    assert marked == set(listed.split())


def test_the_order_is_whole():
    own = {path.relative_to(PACKAGE).parts[0].removesuffix('.py') for path in MODULES}
    assert own - {'__init__'} == set(ORDER)


def test_the_design_names_what_there_is():
    for name, holds in HOLDS.items():
        path = PACKAGE / f'{name}.py'
        path = path if path.is_file() else PACKAGE / name / '__init__.py'
        first = ast.get_docstring(ast.parse(path.read_text())).partition('\n\n')[0]
        assert ' '.join(first.split()) == holds
    for name in re.findall(r'`(\w+/\w+)`', DESIGN):
        assert (PACKAGE / f'{name}.py').is_file()


@pytest.mark.parametrize('path', MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if own == '__init__':
        return
    parts = {name.split('.')[1] for name in imported(path) if name.startswith('cnn_perception.')}
    allowed = {own, *ORDER[:ORDER.index(own)]}
    assert parts <= allowed


def dotted(path):
    return '.'.join(['cnn_perception', *path.relative_to(PACKAGE).with_suffix('').parts]
                    ).removesuffix('.__init__')


def test_no_module_imports_itself_by_way_of_others():
    modules = {dotted(path): path for path in MODULES}
    uses = {}
    for name, path in modules.items():
        named = {*imported(path)} & {*modules}
        # From a package: a module of it, or what it gives itself.
        uses[name] = {other for other in named if not any(
            longer.startswith(f'{other}.') for longer in named)} - {name}
    # Left to type checkers.
    uses['cnn_perception.architectures.table_text'].remove(
        'cnn_perception.architectures.layer_table')
    while leaves := {name for name, others in uses.items() if not others}:
        uses = {name: others - leaves for name, others in uses.items() if name not in leaves}
    assert uses == {}


@pytest.mark.parametrize('path', [
    *MODULES, *sorted((PACKAGE.parent / 'launch').glob('*.py')),
    *sorted((PACKAGE.parent / 'benchmarks').glob('*.py'))],
    ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_no_module_is_too_long(path):
    assert len(path.read_text().splitlines()) <= LONGEST
