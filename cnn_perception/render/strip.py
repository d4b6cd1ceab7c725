"""A fully-connected layer as a strip: one cell for each unit, in order, folded into rows."""

from __future__ import annotations

from functools import lru_cache
import math
from typing import NamedTuple

import cv2
import numpy as np

from . import colormaps, style
from .captions import blank, LINE, width_of

__all__ = ['strip']

WIDTH = 768
ROW = 22
ROWS = 16
GAP = 2
# Rows are folded at a round number, so that a unit's number can be read off its place.
FOLDS = (64, 100, 128, 256, 512, 1024)


class Fold(NamedTuple):
    """Rows of `units` units; the strip of (height, width) rows begins at (top, left)."""

    rows: int
    units: int
    row: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]


def strip(values: np.ndarray, colormap: str, labels: bool, title: str,
          largest: tuple[int, int]) -> np.ndarray:
    """
    Draw a vector (F,) uint8 as rows of cells, (H, W, 3) uint8 RGB.

    labels: the number of the first unit in front of each row. title: a line above, or empty.
    """
    fold = lay_out(len(values), labels, width_of(title, largest[0]), largest)
    cells = np.zeros((fold.rows, fold.units), np.uint8)
    cells.reshape(-1)[:len(values)] = values
    coloured = colormaps.colourise(cells, colormap)
    # Cells behind the last unit are ground, not the lowest value.
    coloured.reshape(-1, 3)[len(values):] = style.GROUND
    height, width = fold.row
    coloured = cv2.resize(coloured, (width, fold.rows * height), interpolation=cv2.INTER_NEAREST)
    picture = backdrop(fold, labels, title).copy()
    target = picture[fold.top:fold.top + fold.rows * (height + GAP),
                     fold.left:fold.left + width]
    target.reshape(fold.rows, height + GAP, width, 3)[:, :height] = coloured.reshape(
        fold.rows, height, width, 3)
    return picture


@lru_cache(maxsize=64)
def lay_out(units: int, labels: bool, caption: int, largest: tuple[int, int]) -> Fold:
    """
    Fold so that there are at most 16 rows, all cells within `largest` (width, height).

    caption: the width of the line above them, 0 for none.
    """
    in_row = next((fold for fold in FOLDS if math.ceil(units / fold) <= ROWS),
                  math.ceil(units / ROWS))
    in_row = min(in_row, units)
    rows = math.ceil(units / in_row)
    left = style.text_width(str(units), style.SMALL) + 8 if labels and rows > 1 else GAP
    # Where a row has more units than pixels, neighbours share one; nothing else can be done.
    room = max(1, min(WIDTH, largest[0] - left - GAP))
    width = in_row * (room // in_row) or room
    top = LINE if caption else GAP
    height = max(1, min(ROW, (largest[1] - top) // rows - GAP))
    full = max(left + width + GAP, caption)
    return Fold(rows, in_row, (height, width), top, left, (top + rows * (height + GAP), full))


@lru_cache(maxsize=16)
def backdrop(fold: Fold, labels: bool, title: str) -> np.ndarray:
    """Draw the ground with the numbers and the title, (H, W, 3) uint8, read-only."""
    picture = blank(fold.size, title)
    step = fold.row[0] + GAP
    # Rows lower than letters are numbered as often as there is room.
    every = max(1, math.ceil(11 / step))
    for row in range(0, fold.rows if labels and fold.rows > 1 else 0, every):
        number = str(row * fold.units)
        column = fold.left - 4 - style.text_width(number, style.SMALL)
        baseline = fold.top + row * step + (fold.row[0] + 9) // 2
        style.write(picture, number, (column, baseline), style.SMALL, style.GREY)
    picture.flags.writeable = False
    return picture
