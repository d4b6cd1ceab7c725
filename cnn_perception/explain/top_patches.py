"""
What a channel has learned to look for: the parts of pictures that excited it most so far.

After Girshick et al. 2014 (arXiv:1311.2524, figure 4) and Zeiler and Fergus 2014: the place of a
map's highest value, cut out of the picture at the layer's receptive field. Activations that end
at a value, as ReLU6 does at 6, have that value at many places and in many pictures: what is active
around decides between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cnn_perception.architectures.errors import shape_text
from cnn_perception.architectures.layer_table import LayerRow
from cnn_perception.preprocess import Preprocessing
from cnn_perception.render import input_window, style
from cnn_perception.render.captions import blank, LINE, longest
from cnn_perception.render.channels import as_maps, pick, strengths
import cv2
import numpy as np

__all__ = ['TopPatches']

GAP = 2
# Where the field reaches beyond the input; lighter than the ground, so that its extent shows.
BEYOND = (56, 56, 56)
# Mean difference in grey levels below which two patches show the same thing.
SAME = 10.0
# Receptive fields smaller than this many input pixels are shown with their surroundings.
SMALLEST = 7
# Standard deviation, in places of a map, of what counts as around one.
AROUND = 1.0


@dataclass
class Patch:
    """One patch: the value at its place, the mean around, the picture (size, size, 3) uint8."""

    value: float
    around: float
    picture: np.ndarray

    def rank(self) -> tuple[float, float]:
        """Return what patches are ordered by."""
        return self.value, self.around


@dataclass
class Channel:
    """A channel and its patches, best first."""

    number: int
    patches: list[Patch] = field(default_factory=list)


class TopPatches:
    """
    Remembers, for chosen channels of a layer, the patches that excited them most.

    row: the layer's, from `field_of`. preprocessing: the network's. channels: channel numbers, or
    how many of them, which are then the strongest of the first picture. count: patches kept for
    each. size: pixels of a patch's side. Memory is bounded by channels x count patches. A picture
    gives a channel one patch at most, and patches that look alike, as those of a camera that
    stands still, count as one.
    """

    def __init__(self, row: LayerRow, preprocessing: Preprocessing,
                 channels: int | Sequence[int] = 8, count: int = 8, size: int = 72) -> None:
        """Raise ValueError for a layer without rows and columns, or for numbers below 1."""
        if len(row.output_shape) != 3:
            raise ValueError(f"layer '{row.name}' is {row.output_shape}, without rows and "
                             'columns: patches need channels x height x width')
        if min(count, size) < 1 or (isinstance(channels, int) and channels < 1):
            raise ValueError(f'channels {channels}, count {count} and size {size} must be at '
                             'least 1')
        self._row = row
        self._preprocessing = preprocessing
        self._wanted = channels
        self._count = count
        self._size = size
        self._channels: list[Channel] = []

    def update(self, frame: np.ndarray, activation: np.ndarray) -> bool:
        """
        Look at one picture; returns whether it gave any patch.

        frame: (H, W, 3) uint8 RGB as it came, before preprocessing; it is not kept. activation:
        (C, h, w) float32 of the layer for it. Values that are not finite, and not above 0, excite
        nothing. Raises ValueError for an activation of another layer.
        """
        maps = as_maps(activation)
        if maps.shape != tuple(self._row.output_shape):
            raise ValueError(f"activation is {maps.shape}, but layer '{self._row.name}' gives "
                             f'{tuple(self._row.output_shape)}')
        if not self._channels:
            self._choose(maps)
        changed = False
        for channel in self._channels:
            values = maps[channel.number]
            value, around, (row, column) = highest(np.where(np.isfinite(values), values, 0.0))
            full = len(channel.patches) == self._count
            if value > 0 and not (full and (value, around) <= channel.patches[-1].rank()):
                patch = Patch(value, around, self._cut(frame, row, column))
                changed |= insert(channel.patches, patch, self._count)
        return changed

    def picture(self) -> np.ndarray:
        """Draw one row for each channel, its strongest patch first: (H, W, 3) uint8 RGB."""
        step = self._size + GAP
        left = style.text_width('0' * 5, style.SMALL) + 8
        rows = max(1, len(self._channels))
        width = left + self._count * step
        sheet = blank((LINE + rows * step, width), self._title(width))
        for index, channel in enumerate(self._channels):
            top = LINE + index * step
            number = str(channel.number)
            style.write(sheet, number, (left - 6 - style.text_width(number, style.SMALL),
                                        top + self._size // 2), style.SMALL, style.WHITE)
            for place, patch in enumerate(channel.patches):
                column = left + place * step
                sheet[top:top + self._size, column:column + self._size] = patch.picture
        return sheet

    def _title(self, width: int) -> str:
        """Say as much as a picture so wide has room for; the layer's name goes last."""
        field = self._row.receptive_field or ()
        seen = 'all of the input' if self._row.whole_input else f'field {shape_text(field)}'
        if not self._row.whole_input and min(field) < SMALLEST:
            seen += f', shown {shape_text(tuple(max(side, SMALLEST) for side in field))}'
        return longest([self._row.name, seen, 'what excited a channel most'], width)

    def _choose(self, maps: np.ndarray) -> None:
        wanted = self._wanted
        numbers = (pick(len(maps), 'strongest', wanted, strengths(maps))
                   if isinstance(wanted, int) else pick(len(maps), wanted, 1, None))
        self._channels = [Channel(int(number)) for number in dict.fromkeys(numbers.tolist())]

    def _cut(self, frame: np.ndarray, row: int, column: int) -> np.ndarray:
        """Cut out what the layer sees at (row, column), what lies beyond the input in grey."""
        window = input_window(self._preprocessing, *frame.shape[:2])
        sides = self._field(row, column)
        box, visible = window.box(*sides), window.visible()
        patch = np.full((self._size, self._size, 3), BEYOND, np.uint8)
        cuts, places = [], []
        for axis in (0, 1):
            start, end = box[axis], max(box[axis + 2], box[axis] + 1)
            # Fields that are not square stand in the middle of the patch.
            extent = self._size * sides[axis + 2] / max(sides[2:])
            zoom, margin = extent / (end - start), (self._size - extent) / 2
            cut = np.clip([start, end], visible[axis], visible[axis + 2])
            cuts.append(slice(*cut.tolist()))
            places.append(slice(*np.rint((cut - start) * zoom + margin).astype(int).tolist()))
        part = np.ascontiguousarray(frame[cuts[0], cuts[1]])
        target = patch[places[0], places[1]]
        if part.size and target.size:
            way = cv2.INTER_AREA if target.shape[0] < part.shape[0] else cv2.INTER_CUBIC
            target[:] = cv2.resize(part, (target.shape[1], target.shape[0]), interpolation=way)
        return patch

    def _field(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return (top, left, height, width) in pixels of the network's input."""
        inputs = self._preprocessing.crop
        if self._row.whole_input:
            return 0, 0, *inputs
        sides = self._row.box(row, column)
        box = []
        for start, extent, limit in zip(sides[:2], sides[2:], inputs):
            if extent >= limit:
                # Wider than the input: as much of the input as it sees, without the padding.
                start, end = np.clip([start, start + extent], 0, limit).tolist()
                start = min(start, limit - 1)
                extent = max(1, end - start)
            elif extent < SMALLEST:
                start, extent = start - (SMALLEST - extent) // 2, SMALLEST
            box.append((start, extent))
        return box[0][0], box[1][0], box[0][1], box[1][1]


def highest(values: np.ndarray) -> tuple[float, float, tuple[int, int]]:
    """
    Find the highest value of a map (h, w) float32: (value, mean around it, (row, column)).

    Of equal values the one is taken around which the map is highest; beyond the map it is 0.
    """
    value = values.max()
    means = cv2.GaussianBlur(np.maximum(values, 0.0), (0, 0), AROUND,
                             borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(np.where(values == value, means, -1.0).argmax(), values.shape)
    return float(value), float(means[row, column]), (int(row), int(column))


def insert(patches: list[Patch], patch: Patch, count: int) -> bool:
    """
    Insert a patch in the order of values, keeping at most `count`; returns whether it was taken.

    It takes the place of one that looks the same and excited less, and is left out if that one
    excited more.
    """
    for index, other in enumerate(patches):
        difference = cv2.absdiff(patch.picture, other.picture)
        if sum(cv2.mean(difference)[:3]) / 3 < SAME:
            if other.rank() >= patch.rank():
                return False
            del patches[index]
            break
    place = sum(other.rank() >= patch.rank() for other in patches)
    patches.insert(place, patch)
    del patches[count:]
    return True
