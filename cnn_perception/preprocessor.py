"""
Pictures to network input: resize, crop, normalise, in the way the weights were trained with.

The picture stays uint8 until after the antialiased resize, which on a CPU takes a twelfth of the
time of resizing floats and rounds exactly where Pillow, and with it torchvision's and timm's own
transforms, rounds. Only the crop that the network reads is converted to float.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cnn_perception.preprocess import Preprocessing
from cnn_perception.processor import one_torch_thread
from cnn_perception.resample import as_tensor, KERNELS, middle, resampled_crop
from cnn_perception.resample_sums import SumResampling
import numpy as np
import torch
import torch.nn.functional

__all__ = ['MOST_READERS', 'Preprocessor', 'Reader']

# ITU-R BT.601 luma, as Pillow and torchvision weigh the channels.
LUMA = (0.2989, 0.587, 0.114)
# Sizes of pictures for which weights, or recordings of their own, are kept on a GPU.
MOST_READERS = 32


@dataclass(frozen=True)
class Reader:
    """
    Reads pictures of one size that are on a device already.

    window: (rows, columns), the slices of a picture that are needed there. levels: function of
    (N, rows, columns, 3) uint8 to the levels of the crop, (N, C, h, w) float32, whole numbers in
    [0, 255], the same that `Preprocessor.crops` gives.
    """

    window: tuple[slice, slice]
    levels: Callable[[torch.Tensor], torch.Tensor]


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
        """(height, width) -> Reader."""

    def __call__(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """Turn (H, W, 3) uint8 RGB pictures of any sizes into (N, C, h, w) float32, normalised."""
        if self.device.type == 'cpu':
            pictures = torch.from_numpy(self.crops(frames)).permute(0, 3, 1, 2)  # (N, C, h, w)
        else:
            readers = [self.reader(*frame.shape[:2]) for frame in frames]
            pictures = torch.cat([reader.levels(as_tensor(np.ascontiguousarray(
                frame[reader.window])).to(self.device)[None])
                for reader, frame in zip(readers, frames)])
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

    def _new_reader(self, height: int, width: int) -> Reader:
        settings = self.preprocessing
        size, crop = settings.resized(height, width), settings.crop
        covers = size[0] >= crop[0] and size[1] >= crop[1]
        box = (*middle(size, crop), *crop) if covers else (0, 0, *size)
        window = slice(0, height), slice(0, width)
        if size == (height, width):
            window = slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])

        sums = None
        if size != (height, width) and settings.interpolation in KERNELS:
            sums = SumResampling((height, width), size, box, settings.interpolation, self.device)
            window = sums.window

        def levels(pictures: torch.Tensor) -> torch.Tensor:
            if sums is not None:
                pictures = sums(pictures)
            elif size == (height, width):
                pictures = pictures.permute(0, 3, 1, 2)  # (N, 3, H, W)
            else:
                pictures = self._resize(pictures.permute(0, 3, 1, 2))  # (N, 3, h, w)
            values = self._crop(pictures).to(torch.float32)
            return self._grey(values) if settings.channels == 1 else values
        return Reader(window, levels)

    def normalise(self, levels: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """
        Turn (N, C, h, w) from 0 to 255, uint8 or float32, into what the weights expect.

        out: where to write it, of any floating type, instead of a new float32 tensor.
        """
        if out is not None:
            return torch.addcmul(self._shift, levels, self._scale, out=out)
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
