"""
Tests that need a GPU are skipped, with the reason counted, where there is none.

Where there is one that torch cannot use, they are run and say why: a driver that is too old, or
a torch without CUDA, must not pass for a machine without a GPU.
"""

from itertools import zip_longest
from pathlib import Path

from cnn_perception.devices import has_gpu
import pytest
import torch

NODES = Path(__file__).parent / 'ros'


def pytest_collection_modifyitems(items):
    usable = torch.cuda.is_available() or has_gpu()
    for item in items:
        if item.get_closest_marker('gpu'):
            # Choosing cuDNN's algorithms takes seconds for every shape.
            item.add_marker(pytest.mark.timeout(1200) if usable else
                            pytest.mark.skip(reason='no CUDA device'))
    items[:] = alternating(items)


def alternating(items):
    """Order the files, longest first: tests of nodes wait while those of networks compute."""
    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ordered = sorted(files, key=lambda path: -len(files[path]))
    pairs = zip_longest((path for path in ordered if path.parent == NODES),
                        (path for path in ordered if path.parent != NODES))
    return [item for pair in pairs for path in pair if path for item in files[path]]
