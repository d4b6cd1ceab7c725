"""The answer drawn over the picture: (H, W, 3) uint8 RGB in, (H, W, 3) uint8 RGB out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from . import style

__all__ = ['legible', 'overlay']

# Below this width in pixels a class and its score do not fit beside each other.
NARROW = 320
# No side is enlarged beyond this.
LONGEST = 1280


class Layout(NamedTuple):
    """Measures of the panel in pixels, all from the picture's size."""

    face: style.Typeface
    row: int
    margin: int
    bar_width: int
    bar_height: int
    number_width: int


def overlay(frame: np.ndarray, classes: Sequence[tuple[str, float]], caption: str = ''
            ) -> np.ndarray:
    """
    Draw classes and scores over a picture, on a darkened panel at its lower edge.

    frame: (H, W, 3) uint8 RGB, left as it is. classes: (name, score in [0, 1]), best first; as
    many rows are drawn as fit into three fifths of the height. caption: a line above them.
    Letters grow with the picture, from 9 pixels upwards, so that they can be read at any width.
    """
    picture = np.ascontiguousarray(frame).copy()
    height, width = picture.shape[:2]
    layout = measure(height, width)
    lines = 1 if caption else 0
    most = max(1, int(0.6 * height - 2 * layout.margin) // layout.row - lines)
    shown = list(classes[:most])
    top = height - (len(shown) + lines) * layout.row - 2 * layout.margin
    if top >= height - 2 * layout.margin or width < 4 * layout.margin + layout.number_width:
        return picture
    top = max(top, 0)
    panel = picture[top:]
    cv2.convertScaleAbs(panel, dst=panel, alpha=style.SHADE)
    baseline = top + layout.margin + layout.row - round(0.3 * layout.row)
    if caption:
        style.write(picture, caption, (layout.margin, baseline), layout.face, style.GREY,
                    width - 2 * layout.margin)
        baseline += layout.row
    for index, (name, score) in enumerate(shown):
        draw_row(picture, name, score, baseline + index * layout.row, layout, index == 0)
    return picture


def legible(frame: np.ndarray) -> np.ndarray:
    """Enlarge a small picture (H, W, 3) by a whole number, so that words can be read on it."""
    height, width = frame.shape[:2]
    zoom = max(1, min(-(-NARROW // width), LONGEST // max(height, width)))
    if zoom == 1:
        return frame
    return cv2.resize(frame, (zoom * width, zoom * height), interpolation=cv2.INTER_NEAREST)


def measure(height: int, width: int) -> Layout:
    """Choose sizes such that five rows fit a usual picture and the smallest can be read."""
    capital = max(9.0, min(width / 60.0, height / 30.0))
    face = style.typeface(capital)
    return Layout(face, round(1.9 * capital), round(0.7 * capital), max(12, round(0.26 * width)),
                  max(4, round(0.8 * capital)), style.text_width('100.0 %', face))


def draw_row(picture: np.ndarray, name: str, score: float, baseline: int, layout: Layout,
             best: bool) -> None:
    """Draw one class: bar, percentage, name."""
    score = min(max(float(score), 0.0), 1.0)
    left, right = layout.margin, layout.margin + layout.bar_width
    upper, lower = baseline - layout.bar_height, baseline
    cv2.rectangle(picture, (left, upper), (right, lower), style.BAR_GROUND, cv2.FILLED)
    filled = left + round(score * layout.bar_width)
    if filled > left:
        cv2.rectangle(picture, (left, upper), (filled, lower),
                      style.BAR_BEST if best else style.BAR_OTHER, cv2.FILLED)
    number = f'{100.0 * score:.1f} %'
    column = right + layout.margin + layout.number_width
    style.write(picture, number, (column - style.text_width(number, layout.face), baseline),
                layout.face, style.WHITE)
    start = column + layout.margin
    style.write(picture, name, (start, baseline), layout.face,
                style.WHITE if best else style.GREY, picture.shape[1] - start - layout.margin)
