"""Nothing that runs a network tells anybody of it, nor starts processes for that."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Unguarded as people write it: a process that is forked from another one runs it once more.
PROGRAM = """
import multiprocessing
multiprocessing.Process.start = lambda process: print('a process was started')
import sys
from cnn_perception.backends.telemetry import import_silently
from cnn_perception.classifier import Classifier
import numpy as np
classifier = Classifier('lenet5', weights='none', device='cpu', backend='openvino')
import_silently('nncf')
classifier.predict([np.zeros((32, 32, 3), np.uint8)])
print(classifier.backend_reason, 'openvino_telemetry' in sys.modules)
"""


def test_no_use_is_reported(tmp_path):
    pytest.importorskip('openvino')
    pytest.importorskip('nncf')
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    # Nor is this taken for a machine that tests, where reports are left out.
    environment = {name: value for name, value in os.environ.items()
                   if name not in ('CI', 'TF_BUILD', 'JENKINS_URL')}
    result = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True,
                            env={**environment, 'PYTHONPATH': path, 'HOME': str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'openvino in float32, as asked False\n'
    assert not (tmp_path / 'intel').exists()


REPORTING = """
import sys, types
own = sys.modules['openvino_telemetry'] = types.ModuleType('openvino_telemetry')
from cnn_perception.backends.telemetry import import_silently
import_silently('json')
assert sys.modules['openvino_telemetry'] is own
del sys.modules['openvino_telemetry']
try:
    import_silently('there_is_no_such_package')
except ModuleNotFoundError as error:
    print(error.name, 'openvino_telemetry' in sys.modules)
"""


def test_whoever_reports_themselves_goes_on():
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')])
    result = subprocess.run([sys.executable, '-c', REPORTING], capture_output=True, text=True,
                            env={**os.environ, 'PYTHONPATH': path})
    assert result.stdout == 'there_is_no_such_package False\n', result.stderr
