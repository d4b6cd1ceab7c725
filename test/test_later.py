"""Modules whose code runs when they are asked: made up ones, and what a node puts off of torch."""

import subprocess
import sys
import threading

from cnn_perception import later
import pytest

PACKAGE = """
import time
RUNS.append('package')
if len(RUNS) < FAILURES:
    raise ImportError('not yet')
time.sleep(0.3)
from made_up_later import part
value = part.value
"""
PUT_OFF = """
import sys
from cnn_perception import later
later.put_off()
import numpy as np
import torch
assert later.is_put_off(later.META) and later.is_put_off('torch.export')
"""
THREADS = """
import threading
errors = []
def begin(*actions):
    def run(action):
        try:
            action()
        except Exception as error:
            errors.append(repr(error))
    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
def importing(name):
    return lambda: __import__(name)
"""
CASES = {
    'threads that load and import do not wait for each other, and networks are compiled':
    THREADS + """
begin(lambda: later.load(later.META), importing('torch._dynamo'))
assert not later.is_put_off(later.META)
double = torch.compile(lambda x: 2 * x, backend='eager', fullgraph=True)
assert double(torch.ones(1)).tolist() == [2.0]
""",
    'threads that import what both need do not wait for each other': THREADS + """
begin(importing('torch._decomp'), importing('torch._dynamo'))
""",
    'threads that ask at once get the same, and networks are exported': THREADS + """
found = []
begin(*[lambda: found.append(torch.export.Dim)] * 4)
assert len(found) == 4 and {*found} == {torch.export.Dim}
exported = torch.export.export(torch.nn.Conv2d(1, 1, 3), (torch.ones(1, 1, 3, 3),))
assert exported.module()(torch.ones(1, 1, 3, 3)).shape == (1, 1, 1, 1)
assert not later.is_put_off(later.META) and not later.is_put_off('torch.export')
""",
    'one that imports a part while another runs the whole is not waited for': THREADS + """
def part():
    try:
        import torch.export.dynamic_shapes
    except ImportError:
        pass  # half there, as in any circle of imports of two threads
begin(lambda: torch.export.Dim, part)
assert torch.export.Dim is torch.export.dynamic_shapes.Dim
""",
    'who only looks runs nothing and makes no second one': """
from importlib.util import find_spec
assert find_spec('torch._dynamo') and later.is_put_off(later.META)
assert find_spec('torch.export.dynamic_shapes')
import torch.export.dynamic_shapes as inside
assert inside is torch.export.dynamic_shapes and inside.Dim is torch.export.Dim
assert 'Dim' in dir(torch.export)
""",
    'a network answers and is explained without': """
from cnn_perception.classifier import Classifier
from cnn_perception.explain import GradCam
for name in ('efficientnet_lite0', 'config/architectures/small_resnet.yaml'):
    classifier = Classifier(name, 'none', 'cpu')
    classifier.predict([np.zeros((32, 32, 3), np.uint8)], GradCam(classifier).taps_for())
assert later.is_put_off(later.META) and later.is_put_off('torch.export')
if 'openvino' in sys.modules:
    assert later.is_put_off(later.PRIMS)
# Its operation has torch look up more than others.
classifier = Classifier('resnet18', 'none', 'cpu')
[answer] = classifier.predict([np.zeros((32, 32, 3), np.uint8)], ['layer4.1.add'])
assert answer.activations['layer4.1.add'].shape == (512, 7, 7)
assert later.is_put_off(later.META)
from cnn_perception.architectures.layer_table import describe
assert describe('efficientnet_lite0').multiply_adds == 385187552
assert not later.is_put_off(later.META)
""",
    'what has a home elsewhere is given without running anything': """
from torch._prims import FakeTensor
assert later.is_put_off(later.PRIMS) and FakeTensor.__module__ == 'torch._subclasses.fake_tensor'
later.load(later.META)
assert not later.is_put_off(later.PRIMS) and torch._prims.FakeTensor is FakeTensor
assert torch.ops.prims.sin.default(torch.zeros(2)).tolist() == [0.0, 0.0]
""",
    'what lies in it is one module': """
from torch.export.dynamic_shapes import Dim
assert not later.is_put_off('torch.export')
assert torch.export.Dim is Dim
assert torch.export.dynamic_shapes is sys.modules['torch.export.dynamic_shapes']
assert type(torch.export) is type(sys)
""",
    'torchvision computes, and can be exported by who asks for it': """
from cnn_perception.quick_imports import torchvision
assert all(later.is_put_off(name) for name in later.PUT_OFF if name != later.PRIMS)
assert torchvision.datasets.FakeData(1, (3, 4, 5))[0][0].size == (5, 4)
assert torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.0)) == 0.5
assert later.is_put_off('torch.export')
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
assert torchvision.ops.nms(boxes, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0]
import torchvision.ops._register_onnx_ops as real
assert real.__file__ and callable(real._register_custom_op)
""",
}
# A module that cannot be imported where something is put off.
NEEDS_ALL = """
import torch
from cnn_perception.later import is_put_off
if is_put_off('torch.export'):
    raise ImportError('torch is only half there')
said = 'whole'
"""
STARTS = """
import sys
from cnn_perception.ros import start
print(start.imported('needs_all').said, *sys.argv[1:])
"""


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Put a package off; returns how often its code ran and with what it fails how often."""
    runs, folder = [], tmp_path / 'made_up_later'
    folder.mkdir()
    (folder / 'part.py').write_text("RUNS.append('part')\nvalue = 7\n")
    (folder / '__init__.py').write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr('builtins.RUNS', runs, raising=False)
    monkeypatch.setattr('builtins.FAILURES', 0, raising=False)
    monkeypatch.setattr(sys, 'meta_path', [*sys.meta_path])
    later.put_off(('made_up_later',))
    yield runs
    for name in [name for name in sys.modules if name.startswith('made_up_later')]:
        del sys.modules[name]


def test_the_code_runs_when_it_is_asked_and_once(made_up):
    import made_up_later
    assert later.is_put_off('made_up_later')
    assert not made_up
    assert made_up_later.value == 7
    assert made_up == ['package', 'part']
    assert not later.is_put_off('made_up_later')
    with pytest.raises(AttributeError, match='made_up_later'):
        made_up_later.nothing  # noqa: B018 - is asked for
    later.load('made_up_later')
    assert made_up == ['package', 'part']


def test_what_lies_in_a_package_runs_after_it_and_once(made_up):
    import made_up_later
    from made_up_later.part import value
    assert value == 7
    assert made_up == ['package', 'part']
    assert made_up_later.part is sys.modules['made_up_later.part']


def test_threads_wait_for_the_one_that_runs_it(made_up):
    import made_up_later
    got = []
    threads = [threading.Thread(target=lambda: got.append(made_up_later.value))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [7] * 8
    assert made_up == ['package', 'part']


def test_code_that_fails_runs_again_when_it_is_asked_again(made_up, monkeypatch):
    monkeypatch.setattr('builtins.FAILURES', 2)
    import made_up_later
    with pytest.raises(ImportError, match='not yet'):
        made_up_later.value  # noqa: B018 - is asked for
    assert later.is_put_off('made_up_later')
    assert made_up_later.value == 7
    assert made_up == ['package', 'package', 'part']


def test_what_is_not_put_off_is_let_be():
    later.load('json')
    later.load('no module of this name')
    assert not later.is_put_off('json')


@pytest.mark.parametrize('case', CASES)
def test_torch(case):
    done = subprocess.run([sys.executable, '-c', PUT_OFF + CASES[case]], check=False,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_a_torch_that_cannot_be_imported_so_is_imported_whole(tmp_path):
    (tmp_path / 'needs_all.py').write_text(NEEDS_ALL)
    script = tmp_path / 'begin.py'
    script.write_text(STARTS)
    done = subprocess.run([sys.executable, str(script), '--ros-args', 'a b'], check=False,
                          capture_output=True, text=True, timeout=300)
    assert done.stdout == 'whole --ros-args a b\n'
    assert done.stderr == ('imported once more, whole, after ImportError: torch is only half '
                           'there\n')
