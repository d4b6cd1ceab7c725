"""The style of ROS 2's own Python packages, as ament_flake8 and ament_pep257 hold it."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = [str(ROOT / name) for name in (
    'cnn_perception', 'environment', 'launch', 'test', 'setup.py')]


def test_flake8():
    flake8 = pytest.importorskip('ament_flake8.main', reason='ament_flake8 is not installed')
    status, problems = flake8.main_with_errors(argv=FOLDERS)
    assert status == 0, '\n'.join(problems)


def test_pep257():
    pep257 = pytest.importorskip('ament_pep257.main', reason='ament_pep257 is not installed')
    assert pep257.main(argv=[str(ROOT / 'cnn_perception'), str(ROOT / 'launch')]) == 0
