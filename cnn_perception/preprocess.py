"""
Pictures to network input: resize, crop, normalise, in the way the weights were trained with.

The picture stays uint8 until after the antialiased resize, which on a CPU takes a twelfth of the
time of resizing floats and rounds exactly where Pillow, and with it torchvision's and timm's own
transforms, rounds. Only the crop that the network reads is converted to float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from cnn_perception.processor import one_torch_thread
from cnn_perception.resample import as_tensor, KERNELS, middle, resampled_crop
from cnn_perception.resample_products import ProductResampling
import numpy as np
import torch
import torch.nn.functional

__all__ = ['IMAGENET_MEAN', 'IMAGENET_STD', 'MOST_READERS', 'Preprocessing', 'Preprocessor',
           'from_timm', 'from_torchvision', 'override', 'plain']

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# ITU-R BT.601 luma, as Pillow and torchvision weigh the channels.
LUMA = (0.2989, 0.587, 0.114)
# Pixels that a picture is resized to at most; one of 16:9 becomes some hundred thousand.
MOST_PIXELS = 2 ** 26
# Sizes of pictures for which weights, or recordings of their own, are kept on a GPU.
MOST_READERS = 32


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
        if min(self.std) <= 0:
            raise ValueError(f'std is {self.std}, expected positive values')
        sizes = (self.resize,) if isinstance(self.resize, int) else self.resize
        if min(*sizes, *self.crop) < 1:
            raise ValueError(f'resize {self.resize} and crop {self.crop} must be at least 1 pixel')

    @property
    def channels(self) -> int:
        """Return the number of input channels: 3 (RGB) or 1 (grey)."""
        return len(self.mean)

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
    return Preprocessing((height, width), (height, width))


def override(preprocessing: Preprocessing, *, input_size: Sequence[int] = (),
             mean: Sequence[float] = (), std: Sequence[float] = ()) -> Preprocessing:
    """
    Replace what a user's own weights need otherwise; empty values keep what is there.

    input_size: (height, width) of the crop; the resize keeps its proportion to the crop.
    """
    if mean or std:
        preprocessing = replace(preprocessing, mean=tuple(mean) or preprocessing.mean,
                                std=tuple(std) or preprocessing.std)
    if not input_size:
        return preprocessing
    if len(input_size) != 2:
        raise ValueError(f'input_size is {list(input_size)}, expected [height, width]')
    height, width = (int(size) for size in input_size)
    old = preprocessing.crop
    if isinstance(preprocessing.resize, int):
        resize: int | tuple[int, int] = round(preprocessing.resize * min(height, width) / min(old))
    else:
        resize = (round(preprocessing.resize[0] * height / old[0]),
                  round(preprocessing.resize[1] * width / old[1]))
    return replace(preprocessing, resize=resize, crop=(height, width))


class Preprocessor:
    """
    Applies a `Preprocessing` to pictures, on the device that the network runs on.

    Its steps can be had one by one, so that an engine takes over some of them: `crops` (pictures
    of any sizes, on the CPU), `reader` (pictures of one size, already on the device), `normalise`.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        """Compute the normalisation as one multiplication and one addition per value."""
        self.preprocessing = preprocessing
        self.device = device
        mean = torch.tensor(preprocessing.mean).view(1, -1, 1, 1)
        std = torch.tensor(preprocessing.std).view(1, -1, 1, 1)
        self._scale = (1.0 / (255.0 * std)).to(device)
        self._shift = (-mean / std).to(device)
        self._luma = torch.tensor(LUMA).view(1, 3, 1, 1).to(device)
        self.reader = lru_cache(maxsize=MOST_READERS)(self._new_reader)
        """
        (height, width) -> function of (N, height, width, 3) uint8 on the device to the levels of
        the crop: (N, C, h, w) float32, whole numbers in [0, 255], the same that `crops` gives.
        """

    def __call__(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Turn (H, W, 3) uint8 RGB pictures of any sizes into (N, C, h, w) float32, normalised."""
        if self.device.type == 'cpu':
            pictures = torch.from_numpy(self.crops(frames)).permute(0, 3, 1, 2)  # (N, C, h, w)
        else:
            pictures = torch.cat([self.reader(*frame.shape[:2])(
                as_tensor(frame).to(self.device)[None]) for frame in frames])
        return self.normalise(pictures)

    def crops(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Turn (H, W, 3) uint8 RGB pictures of any sizes into (N, h, w, C) uint8, on the CPU."""
        batch = np.empty((len(frames), *self.preprocessing.crop, 3), np.uint8)
        for index, frame in enumerate(frames):
            batch[index] = self._resized_crop(frame)
        if self.preprocessing.channels == 1:
            with one_torch_thread():
                pictures = torch.from_numpy(batch).permute(0, 3, 1, 2)  # (N, 3, h, w)
                return self._grey(pictures.to(torch.float32)).to(torch.uint8).permute(
                    0, 2, 3, 1).numpy()
        return batch

    def _resized_crop(self, frame: np.ndarray) -> np.ndarray:
        """Turn a picture (H, W, 3) uint8 RGB into (h, w, 3) uint8."""
        settings = self.preprocessing
        size = settings.resized(*frame.shape[:2])
        covers = size[0] >= settings.crop[0] and size[1] >= settings.crop[1]
        if covers and size != frame.shape[:2] and settings.interpolation in KERNELS:
            return resampled_crop(frame, size, settings.crop, settings.interpolation)
        with one_torch_thread():
            # The first axis added first: its stride is then one by which torch sees channels last.
            picture = as_tensor(np.ascontiguousarray(frame))[None]  # (1, H, W, 3)
            return self._crop(self._resize(
                picture.permute(0, 3, 1, 2)))[0].permute(1, 2, 0).numpy()

    def _new_reader(self, height: int, width: int) -> Callable[[torch.Tensor], torch.Tensor]:
        settings = self.preprocessing
        size, crop = settings.resized(height, width), settings.crop
        resize: Callable[[torch.Tensor], torch.Tensor] = self._resize
        if size != (height, width) and settings.interpolation in KERNELS:
            covers = size[0] >= crop[0] and size[1] >= crop[1]
            box = (*middle(size, crop), *crop) if covers else (0, 0, *size)
            resize = ProductResampling((height, width), size, box, settings.interpolation,
                                       self.device)

        def read(pictures: torch.Tensor) -> torch.Tensor:
            values = self._crop(resize(pictures.permute(0, 3, 1, 2))).to(torch.float32)
            return self._grey(values) if settings.channels == 1 else values
        return read

    def normalise(self, levels: torch.Tensor) -> torch.Tensor:
        """Turn (N, C, h, w) from 0 to 255, uint8 or float32, into what the weights expect."""
        return (levels.to(torch.float32) * self._scale).add_(self._shift)

    def _grey(self, values: torch.Tensor) -> torch.Tensor:
        return (values * self._luma).sum(dim=1, keepdim=True).round()

    def _resize(self, pictures: torch.Tensor) -> torch.Tensor:
        """Resize (N, 3, H, W) uint8 to (N, 3, h, w) uint8, antialiased."""
        size = self.preprocessing.resized(*pictures.shape[2:])
        if size == tuple(pictures.shape[2:]):
            return pictures
        mode = self.preprocessing.interpolation
        if mode == 'nearest':
            return torch.nn.functional.interpolate(pictures, size=size, mode='nearest-exact')
        return torch.nn.functional.interpolate(
            pictures, size=size, mode=mode, antialias=True, align_corners=False)

    def _crop(self, pictures: torch.Tensor) -> torch.Tensor:
        """Cut (N, 3, crop height, crop width) from the centre, padding with black."""
        height, width = self.preprocessing.crop
        missing = (max(0, height - pictures.shape[2]), max(0, width - pictures.shape[3]))
        if any(missing):
            top, left = missing[0] // 2, missing[1] // 2
            pictures = torch.nn.functional.pad(
                pictures, (left, missing[1] - left, top, missing[0] - top))
        top, left = middle((pictures.shape[2], pictures.shape[3]), (height, width))
        return pictures[:, :, top:top + height, left:left + width]
