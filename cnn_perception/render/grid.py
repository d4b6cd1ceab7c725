"""How maps are laid out on a picture, and what of it is the same in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import math

import numpy as np

from . import style
from .captions import blank, LINE

__all__ = ['Grid', 'backdrop', 'lay_out']

PROPORTION = 4 / 3
GAP = 2
LABEL = 13
# What an automatic scale fills: 64 maps of 7 x 7 at 11 pixels to one, of 112 x 112 at one to two.
COMFORTABLE = (820, 680)


@dataclass(frozen=True)
class Grid:
    """
    Where n tiles lie; all in pixels.

    A map is shrunk by `shrink`, then enlarged by `zoom`, both whole numbers, one of them 1, which
    gives a tile of `tile` (height, width). `cell` is the tile with its label and gap, `label` the
    height of the label (0: none). The grid begins at (top, left) of a picture of `size`.
    """

    rows: int
    columns: int
    zoom: int
    shrink: int
    tile: tuple[int, int]
    cell: tuple[int, int]
    label: int
    top: int
    left: int
    size: tuple[int, int]

    def cells(self, picture: np.ndarray) -> np.ndarray:
        """View the cells of a picture of `size`: (rows, cell height, columns, cell width, 3)."""
        height, width = self.rows * self.cell[0], self.columns * self.cell[1]
        return picture[self.top:self.top + height, self.left:self.left + width].reshape(
            self.rows, self.cell[0], self.columns, self.cell[1], 3)

    def place(self, picture: np.ndarray, tiles: np.ndarray, count: int) -> None:
        """
        Put tiles on a picture of `size`, in place.

        tiles: (rows * tile height, columns * tile width, 3) uint8, of which the first `count` are
        shown.
        """
        (height, width), top, left = self.tile, self.label + GAP // 2, GAP // 2
        source = tiles.reshape(self.rows, height, self.columns, width, 3)
        target = self.cells(picture)[:, top:top + height, :, left:left + width]
        full, rest = divmod(count, self.columns)
        target[:full] = source[:full]
        if rest:
            target[full, :, :rest] = source[full, :, :rest]


@lru_cache(maxsize=128)
def lay_out(count: int, shape: tuple[int, int], scale: int, labels: bool, caption: int,
            largest: tuple[int, int], digits: int) -> Grid:
    """
    Lay out `count` maps of (h, w) as near to 4:3 as they come.

    caption: the width of the line above them, 0 for none.
    scale: zoom, 0 chooses one for at most 820 x 680 pixels. largest: (width, height) that the
    picture may have; where maps are too many for it they are shrunk by a whole number. digits:
    those of the largest label; labels are left out where tiles are too narrow for them.
    """
    # An explicit scale may fill all that is allowed.
    width, height = largest if scale else (min(largest[0], COMFORTABLE[0]),
                                           min(largest[1], COMFORTABLE[1]))
    limits = width, height - (LINE if caption else 0)
    label_width = style.text_width('0' * digits, style.SMALL)

    def attempt(zoom: int, shrink: int, labelled: bool) -> Grid:
        tile = max(1, shape[0] // shrink) * zoom, max(1, shape[1] // shrink) * zoom
        label = LABEL if labelled and tile[1] >= label_width else 0
        cell = tile[0] + GAP + label, tile[1] + GAP
        columns = best_columns(count, cell, limits)
        rows = math.ceil(count / columns)
        top = LINE if caption else 0
        width = columns * cell[1]
        full = max(width, caption)
        return Grid(rows, columns, zoom, shrink, tile, cell, label, top, (full - width) // 2,
                    (rows * cell[0] + top, full))

    def fits(grid: Grid) -> bool:
        return (grid.columns * grid.cell[1] <= limits[0]
                and grid.rows * grid.cell[0] <= limits[1])

    for labelled in ((True, False) if labels else (False,)):
        for zoom in range(scale or max(1, limits[0] // shape[1]), 0, -1):
            grid = attempt(zoom, 1, labelled)
            if fits(grid) and (grid.label or not labelled):
                return grid
        # Labels that take more room than their maps are given up first.
        for shrink in range(2, max(shape) + 1):
            grid = attempt(1, shrink, labelled)
            if fits(grid) and (not labelled or 0 < grid.label <= grid.tile[0]):
                return grid
    raise ValueError(f'{count} maps do not fit into {largest[0]} x {largest[1]} pixels: show '
                     'fewer channels, or allow a larger picture')


def best_columns(count: int, cell: tuple[int, int], limits: tuple[int, int]) -> int:
    """Return how many columns fit, come nearest to 4:3 and leave the fewest cells empty."""
    def badness(columns: int) -> tuple[bool, float]:
        rows = math.ceil(count / columns)
        width, height = columns * cell[1], rows * cell[0]
        return (width > limits[0] or height > limits[1],
                abs(math.log(width / height / PROPORTION)) + (columns * rows - count) / count)
    return min(range(1, count + 1), key=badness)


@lru_cache(maxsize=32)
def backdrop(grid: Grid, channels: tuple[int, ...], title: str) -> np.ndarray:
    """
    Draw what stays the same from frame to frame: ground, channel numbers, title.

    Returns (H, W, 3) uint8, read-only; at most 32 of them are kept.
    """
    picture = blank(grid.size, title)
    if grid.label:
        for index, channel in enumerate(channels):
            row, column = divmod(index, grid.columns)
            left = grid.left + column * grid.cell[1] + GAP // 2
            bottom = grid.top + row * grid.cell[0] + GAP // 2 + LABEL - 3
            style.write(picture, str(channel), (left, bottom), style.SMALL, style.GREY)
    picture.flags.writeable = False
    return picture
