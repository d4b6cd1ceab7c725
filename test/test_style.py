"""The style of ROS 2's own Python packages, as ament_flake8 and ament_pep257 hold it."""

from importlib.util import find_spec
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    'ament_flake8': ('cnn_perception', 'environment', 'launch', 'test', 'setup.py'),
    'ament_pep257': ('cnn_perception', 'launch')}


@pytest.mark.parametrize('checker', [*FOLDERS])
def test_style(checker):
    if find_spec(checker) is None:
        pytest.skip(f'{checker} is not installed')
    # In a process of its own: flake8 forks, and a copy of this process, with the threads that
    # other tests have left in it, may wait for ever for one that it does not have.
    result = subprocess.run(
        [sys.executable, '-m', f'{checker}.main', *FOLDERS[checker]], cwd=ROOT,
        capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
