"""The README and the docs say what is so: tables, commands, pictures, code."""

import ast
import importlib
import os
from pathlib import Path
import re
import shlex
import subprocess
import sys

from cnn_perception.photographs import photograph
from cnn_perception.ros.transport_watch import REMEDIES
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
LAUNCH = {path.name: path.read_text() for path in (ROOT / 'launch').glob('*.launch.py')}
HELPER = (ROOT / 'cnn_perception' / 'ros' / 'launching.py').read_text()
SETUP = (ROOT / 'setup.py').read_text()
TARGETS = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))


def blocks(kind):
    for page in PAGES:
        for number, block in enumerate(re.findall(
                rf'^```{kind}\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL)):
            yield pytest.param(block, id=f'{page.name}-{number}')


def commands():
    for block in blocks('bash'):
        for line in block.values[0].replace('\\\n', ' ').splitlines():
            yield pytest.param(line, id=line[:70])


@pytest.mark.parametrize('line', [*commands()])
def test_every_command_can_work(line):
    """Run what runs here; of the rest, check every name against what it must name."""
    words = shlex.split(line, comments=True)
    while '=' in words[0]:
        words.pop(0)
    check = CHECKS.get(words[0]) or CHECKS.get(' '.join(words[:2]))
    assert check is not None, f'no test knows how to check: {line}'
    check(words)


def make(words):
    names = [word for word in words[1:] if '=' not in word]
    assert set(names) <= TARGETS
    environment = {**os.environ, 'MAKEFLAGS': ''}
    result = subprocess.run(['make', '--dry-run', *words[1:]], cwd=ROOT, env=environment,
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def virtual_environment(words):
    command = [sys.executable, *words[1:]]
    # Their own tests run the tools at length; here they must take these very options.
    if words[1] == '-m':
        with pytest.raises(SystemExit) as end:
            importlib.import_module(words[2]).main([*words[3:], '--help'])
        assert end.value.code == 0
        return
    if words[1].endswith('.py'):
        assert (ROOT / words[1]).is_file()
        command = [*command, '--help']
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def declared(file):
    """Return the names of the arguments that a launch file declares, by itself or included."""
    text = LAUNCH[file]
    names = set(re.findall(r"launching\.argument\(\s*'(\w+)'", text))
    if 'common_arguments()' in text:
        common = HELPER.partition('def common_arguments')[2].partition('\ndef ')[0]
        names |= set(re.findall(r"argument\('(\w+)'", common))
    if 'parameter_arguments(CLASSIFIER, PARAMETERS' in text:
        names |= set(ast.literal_eval(re.search(r'^PARAMETERS = (\(.*?\))$', text,
                                                re.MULTILINE | re.DOTALL)[1]))
    for included in re.findall(r"with_name\('([\w.]+)'\)", text):
        names |= declared(included)
    return names


def ros2_launch(words):
    package, file, *arguments = words[2:]
    assert package == 'cnn_perception'
    if file == 'FILE':
        return
    assert file in LAUNCH
    given = {argument.partition(':=')[0] for argument in arguments
             if not argument.startswith('--')}
    assert given <= declared(file)


def ros2_run(words):
    package, executable = words[2:4]
    if package == 'cnn_perception':
        assert f'{executable} = cnn_perception.' in SETUP
    else:
        assert (package, executable) in (('rviz2', 'rviz2'), ('rqt_image_view',) * 2)
        files_exist(words)


def files_exist(words):
    for path in re.findall(r'cnn_perception\)/(\S+)', ' '.join(words)):
        assert (ROOT / path).is_file(), path


def export(words):
    if words[1] == 'PIP_BREAK_SYSTEM_PACKAGES=1':
        return
    assert re.match(r'(FASTRTPS|FASTDDS)_DEFAULT_PROFILES_FILE=|CYCLONEDDS_URI=file://', words[1])
    files_exist(words)


def system_setting(words):
    """Check that the node and the file say the same."""
    text = ' '.join(words)
    assert text in (ROOT / 'config' / 'cyclonedds.xml').read_text()
    assert text in REMEDIES['rmw_cyclonedds_cpp']


def topic(words):
    name = words[3]
    text = '\n'.join(path.read_text() for path in (ROOT / 'cnn_perception' / 'ros').glob('*.py'))
    assert name.replace('/classifier', '') in text


def parameter(words):
    text = (ROOT / 'cnn_perception' / 'ros' / 'parameters.py').read_text()
    assert words[3] == '/classifier'
    assert f"Parameter('{words[4]}'" in text


def service(words):
    text = (ROOT / 'cnn_perception' / 'ros' / 'services.py').read_text()
    assert f"'{words[3].replace('/classifier/', '~/')}'" in text


def rosdep(words):
    if '--skip-keys' in words:
        keys = words[words.index('--skip-keys') + 1].split()
        needed = re.findall('<exec_depend>(.*)<', (ROOT / 'package.xml').read_text())
        assert keys == [key for key in needed if key.endswith('-pip')]


def pip(words):
    """Check against what `.venv` is given beside a sourced ROS 2."""
    if words[1] != 'download':
        assert words[1] == 'install'
        pinned = (ROOT / 'environment' / 'sourced-numpy2.txt').read_text()
        assert [name for name in words[2:] if f'\n{name}==' not in f'\n{pinned}'] == []


def colcon(words):
    assert words[-3:] == ['build', '--packages-select', 'cnn_perception']


def python(words):
    """Check what a ROS 2 machine's own Python is asked for."""
    assert words[1] == '-m'
    if words[2] == 'colcon':
        colcon(words)
    else:
        assert words[2] == 'venv'


def known(*_):
    """Accept what belongs to ROS 2 and names nothing of ours."""


CHECKS = {'make': make, '.venv/bin/python': virtual_environment, 'ros2 launch': ros2_launch,
          'ros2 run': ros2_run, 'ros2 topic': topic, 'ros2 param': parameter,
          'ros2 service': service, 'ros2 lifecycle': known, 'export': export,
          'sudo sysctl': system_setting,
          'rosdep': rosdep, 'pip': pip, 'colcon': colcon, 'python3': python, 'source': known}


@pytest.mark.parametrize('block', [*blocks('python')])
def test_python_examples_run(block):
    exec(compile(block, 'README', 'exec'), {'rgb': photograph('cat')})


def test_parameter_tables_are_those_of_the_code():
    sys.path.insert(0, str(ROOT / 'environment'))
    try:
        import write_tables
    finally:
        sys.path.pop(0)
    text = (ROOT / 'README.md').read_text()
    assert write_tables.with_tables(text) == text, 'run make tables'
    assert '| `architecture` |' in text


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_pictures_and_links_exist(page):
    for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
        if not target.startswith('http'):
            assert (page.parent / target).exists(), target


def test_launch_arguments_of_the_readme_are_declared():
    rows = re.findall(r'^\| `(\w+\.launch\.py)` \|[^|]*\| (.*) \|$',
                      (ROOT / 'README.md').read_text(), re.MULTILINE)
    assert {name for name, _ in rows} == set(LAUNCH)
    for file, arguments in rows:
        # What is in parentheses are values.
        named = set(re.findall(r'`(\w+)`', re.sub(r'\([^)]*\)', '', arguments)))
        assert named <= declared(file)
        if file == 'classifier.launch.py':
            assert named == declared(file)


def test_the_python_files_that_a_fresh_machine_runs_first_need_nothing():
    tree = ast.parse((ROOT / 'environment' / 'set_up.py').read_text())
    modules = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
               for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))}
    assert {name.partition('.')[0] for name in modules} <= sys.stdlib_module_names
