"""Nothing that runs a network tells anybody of it, nor starts processes for that."""

import ast
import json
import os
from pathlib import Path
import subprocess
import sys
from types import ModuleType

from cnn_perception.backends.telemetry import import_silently, REPORTER
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Unguarded as people write it: a process that is forked from another one runs it once more.
PROGRAM = """
import multiprocessing
multiprocessing.Process.start = lambda process: print('a process was started')
import sys
from cnn_perception.classifier import Classifier
import numpy as np
classifier = Classifier('lenet5', weights='none', device='cpu', backend='openvino')
classifier.predict([np.zeros((32, 32, 3), np.uint8)])
print(classifier.backend_reason, 'openvino_telemetry' in sys.modules)
"""


def test_no_use_is_reported(tmp_path):
    pytest.importorskip('openvino')
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    # Nor is this taken for a machine that tests, where reports are left out.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'TF_BUILD', 'JENKINS_URL')}
    result = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True,
                            env={**environment, 'PYTHONPATH': path, 'HOME': str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'openvino in float32, as asked False\n'
    assert not (tmp_path / 'intel').exists()


def test_nothing_imports_openvino_or_nncf_otherwise():
    for path in (ROOT / 'cnn_perception').rglob('*.py'):
        plain = [alias.name for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Import) for alias in node.names]
        assert not {'openvino', 'nncf'} & {*plain}, path


def test_whoever_reports_themselves_goes_on(monkeypatch):
    own = ModuleType(REPORTER)
    monkeypatch.setitem(sys.modules, REPORTER, own)
    assert import_silently('json') is json
    assert sys.modules[REPORTER] is own
    monkeypatch.delitem(sys.modules, REPORTER)
    with pytest.raises(ModuleNotFoundError):
        import_silently('there_is_no_such_package')
    assert REPORTER not in sys.modules
