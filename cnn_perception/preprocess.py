"""What a set of weights expects of its pictures: their size, range and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import math
from typing import Any

import torch

__all__ = ['IMAGENET_MEAN', 'IMAGENET_STD', 'Preprocessing', 'from_timm', 'from_torchvision',
           'override', 'plain']

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Pixels that a picture is resized to at most; one of 16:9 becomes some hundred thousand.
MOST_PIXELS = 2 ** 26
# Of a side of what a network is given; twice of what the largest published ones take, squared.
MOST_INPUT = 4096


@dataclass(frozen=True)
class Preprocessing:
    """
    What turns a picture into the tensor that a set of weights expects.

    resize: short side in pixels, or (height, width) to resize to regardless of proportions.
    crop: (height, width) cut from the centre, zero-padded where the picture is smaller.
    mean, std: per channel, for values in [0, 1]; their length is the number of channels, 1 or 3.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str = 'bilinear'
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __post_init__(self) -> None:
        """Refuse what no picture could be prepared with."""
        if self.interpolation not in ('bilinear', 'bicubic', 'nearest'):
            raise ValueError(f"interpolation is '{self.interpolation}', expected 'bilinear', "
                             "'bicubic' or 'nearest'")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
            raise ValueError(f'mean has {len(self.mean)} and std {len(self.std)} values, expected '
                             'one for each channel: 1 or 3')
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(f'mean is {self.mean} and std {self.std}, expected numbers, those of '
                             'std positive')
        sizes = (self.resize,) if isinstance(self.resize, int) else self.resize
        if min(*sizes, *self.crop) < 1:
            raise ValueError(f'resize {self.resize} and crop {self.crop} must be at least 1 pixel')

    @property
    def channels(self) -> int:
        """Return the number of input channels: 3 (RGB) or 1 (grey)."""
        return len(self.mean)

    def __str__(self) -> str:
        """Say what is done to a picture, in one line."""
        height, width = self.crop
        size = (f'short side to {self.resize}' if isinstance(self.resize, int)
                else f'to {self.resize[0]} x {self.resize[1]}')
        middle = '' if self.resize == self.crop else f', middle {height} x {width} of it'
        if isinstance(self.resize, int) and max(self.crop) > self.resize:
            middle += ', black where it is smaller'
        mean, std = (', '.join(f'{value:.4g}' for value in values)
                     for values in (self.mean, self.std))
        return f'{size} ({self.interpolation}){middle}, mean {mean}, std {std}'

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """
        Return the size that a picture of height x width is resized to before the crop.

        Raises ValueError for a picture that is so much longer than wide, or the other way round,
        that resizing its short side would take gigabytes.
        """
        if not isinstance(self.resize, int):
            return self.resize
        longer = int(self.resize * max(height, width) / min(height, width))
        if self.resize * longer > MOST_PIXELS:
            raise ValueError(f'a picture of {width} x {height} has its short side resized to '
                             f'{self.resize}, its long one to {longer}: expected at most '
                             f'{MOST_PIXELS} pixels; crop it')
        size = self.resize, max(1, longer)
        return size if height <= width else size[::-1]


def from_torchvision(weights: Any) -> Preprocessing:
    """Read the preprocessing of a torchvision weights entry, `ResNet18_Weights.DEFAULT` say."""
    transforms = weights.transforms()
    return Preprocessing(
        resize=int(transforms.resize_size[0]),
        crop=(int(transforms.crop_size[0]), int(transforms.crop_size[0])),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean), std=tuple(transforms.std))


def from_timm(module: torch.nn.Module) -> Preprocessing:
    """Read the preprocessing that a timm network was evaluated with."""
    import timm.data  # optional: only networks of timm need it
    config = timm.data.resolve_data_config({}, model=module)
    height, width = (int(size) for size in config['input_size'][1:])
    mode = config.get('crop_mode', 'center')
    if mode == 'squash' or height != width:
        ratio = config['crop_pct']
        resize: int | tuple[int, int] = (int(height / ratio), int(width / ratio))
    else:
        resize = int(height / config['crop_pct'])
    return Preprocessing(resize=resize, crop=(height, width),
                         interpolation=config['interpolation'],
                         mean=tuple(config['mean']), std=tuple(config['std']))


def plain(shape: tuple[int, int, int]) -> Preprocessing:
    """Preprocessing for a network without weights of its own: resize to (C, H, W), no crop."""
    channels, height, width = shape
    if channels == 1:
        return Preprocessing((height, width), (height, width), mean=(0.5,), std=(0.5,))
    if channels != 3:
        raise ValueError(f'the network takes {channels} channels; images can be classified by '
                         'networks with 3 (red, green, blue) or 1 (grey)')
    return Preprocessing((height, width), (height, width))


def override(preprocessing: Preprocessing, *, input_size: Sequence[int] = (),
             mean: Sequence[float] = (), std: Sequence[float] = ()) -> Preprocessing:
    """
    Replace what a user's own weights need otherwise; empty values keep what is there.

    input_size: (height, width) of the crop; the resize keeps its proportion to the crop. Raises
    ValueError for a mean without std, or the other way round, and for what is not meant for values
    in [0, 1].
    """
    if bool(len(mean)) != bool(len(std)):
        given, missing = ('mean', 'std') if len(mean) else ('std', 'mean')
        raise ValueError(f'{given} is {list(mean or std)} without {missing}: give both, as the '
                         'network was trained with')
    if any(not 0.0 <= value <= 1.0 for value in mean) or any(not value <= 2.0 for value in std):
        raise ValueError(f'mean is {list(mean)} and std {list(std)}, expected those of pictures '
                         'with values from 0 to 1: divide both by 255')
    if len(mean):
        preprocessing = replace(preprocessing, mean=tuple(mean), std=tuple(std))
    if not len(input_size):
        return preprocessing
    if len(input_size) != 2:
        raise ValueError(f'input_size is {list(input_size)}, expected [height, width]')
    if not all(1 <= side <= MOST_INPUT for side in input_size):
        raise ValueError(f'input_size is {list(input_size)}, expected sides from 1 to '
                         f'{MOST_INPUT} pixels')
    height, width = (int(size) for size in input_size)
    old = preprocessing.crop
    if isinstance(preprocessing.resize, int):
        resize: int | tuple[int, int] = round(preprocessing.resize * min(height, width) / min(old))
    else:
        resize = (round(preprocessing.resize[0] * height / old[0]),
                  round(preprocessing.resize[1] * width / old[1]))
    return replace(preprocessing, resize=resize, crop=(height, width))
