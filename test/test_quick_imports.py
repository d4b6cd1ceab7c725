"""What is imported for a start, and that what was left out works when it is needed."""

import subprocess
import sys

import pytest

COMMON = """
import sys
import numpy as np
from cnn_perception.classifier import Classifier
from cnn_perception.explain import GradCam
"""
CASES = {
    # All that a node with a viewer does, of the three sources of networks.
    'no compiler is loaded, nor timm for others; both work afterwards': """
import cnn_perception.ros.classifier_node
for name in ('efficientnet_lite0', 'resnet18', 'lenet5', 'timm/resnet10t'):
    assert 'timm' not in sys.modules
    classifier = Classifier(name, 'none', 'cpu')
    classifier.predict([np.zeros((32, 32, 3), np.uint8)], GradCam(classifier).taps_for())
assert {'torchvision', 'timm'} <= sys.modules.keys()
assert not {'torch._dynamo', 'triton'} & sys.modules.keys()
import torch, torchvision
boxes = torch.tensor([[0.0, 0.0, 0.0, 4.0, 4.0]])
mean = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), boxes, 2)
assert mean.tolist() == [[[[1.0, 1.0], [1.0, 1.0]]]]
assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).tolist() == [2.0]
""",
    'layers are described without the compiler, which works afterwards': """
import torch
from cnn_perception.architectures.layer_table import describe
module = Classifier('resnet18', 'none', 'cpu').network.module
assert describe(module, (3, 224, 224)).parameters == 11689512
assert 'torch._dynamo' not in sys.modules and '_dynamo' not in vars(torch)
with torch.device('meta'):
    describe('vgg11')
assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(1)).tolist() == [2.0]
assert describe(module, (3, 64, 64)).parameters == 11689512
""",
    'the compiler is loaded by who asks for more, and is told later what to leave alone': """
import torch
from cnn_perception.quick_imports import Undisturbed, without_compiler_for_meta
with without_compiler_for_meta():
    apart = torch._dynamo.disable(lambda x: 2 * x, recursive=True)
    assert isinstance(sys.modules['torch._dynamo'], Undisturbed) and apart(3) == 6
    assert callable(torch._dynamo.explain)
    assert not isinstance(sys.modules['torch._dynamo'], Undisturbed)
assert not isinstance(torch._dynamo, Undisturbed) and apart(3) == 6
""",
    'what is imported is not looked through for garbage': """
import gc, types
from cnn_perception import quick_imports
from cnn_perception.collector import without_collector
from cnn_perception.ros import start
imported = types.ModuleType('imported')
imported.main = lambda: gc.get_freeze_count()
sys.modules['imported'] = imported
assert start.start('imported') > 100000
assert gc.isenabled()
with without_collector():
    assert not gc.isenabled()
assert gc.isenabled()
gc.disable()
quick_imports.import_quickly('timm')
assert not gc.isenabled()
""",
    'what is disabled for the compiler runs': """
import torch
from cnn_perception import quick_imports
def double(x):
    'Twice.'
    return 2 * x
with quick_imports.without_compiler():
    later = torch.compiler.disable(double)
    assert torch.compiler.disable is not quick_imports.DISABLE
    asked = sys.modules['torch._dynamo.utils']
    assert isinstance(asked, quick_imports.Asked)
    # What else is asked for is the real thing's.
    assert callable(asked.counters.clear)
    import torch._dynamo.utils as real
    assert asked.is_compile_supported('cpu') == bool(real.is_compile_supported('cpu'))
    assert sys.modules['torch._dynamo.utils'] is real is not asked
assert torch.compiler.disable is quick_imports.DISABLE
assert (later(3), later.__name__, later.__doc__) == (6, 'double', 'Twice.')
assert torch.compile(lambda x: later(x) + 1, backend='eager')(torch.ones(1)).tolist() == [3.0]
""",
}


@pytest.mark.parametrize('case', CASES)
def test_imports(case):
    done = subprocess.run([sys.executable, '-c', COMMON + CASES[case]], check=False,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
