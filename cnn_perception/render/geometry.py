"""Where on the original picture the network looks: preprocessing's resize and crop, backwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is not needed to draw
    from cnn_perception.preprocess import Preprocessing

__all__ = ['InputWindow', 'input_window']


@dataclass(frozen=True)
class InputWindow:
    """
    The rectangle of a picture that becomes the network's input; it may reach beyond the picture.

    top, left, height, width: in pixels of the picture, where 0.0 is the outer edge of the first
    one. zoom: (vertical, horizontal) picture pixels to one pixel of the input. frame: (height,
    width) of the picture.
    """

    top: float
    left: float
    height: float
    width: float
    zoom: tuple[float, float]
    frame: tuple[int, int]

    def box(self, top: float, left: float, height: float, width: float
            ) -> tuple[int, int, int, int]:
        """
        Turn a rectangle in input pixels into one in picture pixels, rounded to whole ones.

        Returns (top, left, bottom, right), bottom and right exclusive; not cut at the picture.
        """
        rows, columns = self.zoom
        return (round(self.top + top * rows), round(self.left + left * columns),
                round(self.top + (top + height) * rows),
                round(self.left + (left + width) * columns))

    def visible(self) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of what the network sees of the picture."""
        rows, columns = self.zoom
        top, left, bottom, right = self.box(0, 0, self.height / rows, self.width / columns)
        return max(0, top), max(0, left), min(self.frame[0], bottom), min(self.frame[1], right)


def input_window(preprocessing: Preprocessing, height: int, width: int) -> InputWindow:
    """
    Locate the network's input on a picture of (height, width).

    The arithmetic is that of `Preprocessor`: resize, pad where too small, crop from the centre.
    """
    resized = preprocessing.resized(height, width)
    start = []
    for size, crop in zip(resized, preprocessing.crop):
        missing = max(0, crop - size)
        start.append(round((size + missing - crop) / 2.0) - missing // 2)
    zoom = height / resized[0], width / resized[1]
    return InputWindow(start[0] * zoom[0], start[1] * zoom[1], preprocessing.crop[0] * zoom[0],
                       preprocessing.crop[1] * zoom[1], zoom, (height, width))
