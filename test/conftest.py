"""
Tests that need a GPU are skipped, with the reason counted, where there is none.

Where there is one that torch cannot use, they are run and say why: a driver that is too old, or
a torch without CUDA, must not pass for a machine without a GPU.
"""

from cnn_perception.devices import has_gpu
import pytest
import torch


def pytest_collection_modifyitems(items):
    usable = torch.cuda.is_available() or has_gpu()
    for item in items:
        if item.get_closest_marker('gpu'):
            # Choosing cuDNN's algorithms takes seconds for every shape.
            item.add_marker(pytest.mark.timeout(1200) if usable else
                            pytest.mark.skip(reason='no CUDA device'))
