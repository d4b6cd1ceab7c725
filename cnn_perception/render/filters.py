"""What a convolution looks for: its kernels as tiles, after Krizhevsky et al. 2012, figure 3."""

from __future__ import annotations

import numpy as np

from .captions import title_of, width_of
from .grid import backdrop, Grid, lay_out
from .mosaic import enlarged, LARGEST, MOST

__all__ = ['filters']


def filters(weight: np.ndarray, *, scale: int = 0, labels: bool = False, caption: str = '',
            largest: tuple[int, int] = LARGEST) -> np.ndarray:
    """
    Draw the kernels of a convolution as tiles on one picture (H, W, 3) uint8 RGB.

    weight: (K, C, kh, kw) float32. With C = 3 a tile is in colour, channels in the order of the
    network's input, which is RGB; otherwise it is grey and shows the mean over the inputs. Zero is
    the middle grey and the largest magnitude of a kernel is full colour, so that kernels of all
    strengths can be seen and signs be told apart. scale, labels, caption, largest: as in `mosaic`.
    Raises TypeError and ValueError for what is no such weight.
    """
    if not isinstance(weight, np.ndarray) or weight.dtype.kind != 'f':
        kind = getattr(weight, 'dtype', type(weight).__name__)
        raise TypeError(f'weight is {kind}, expected a NumPy array (K, C, kh, kw) of float32')
    if weight.ndim != 4 or 0 in weight.shape:
        raise ValueError(f'weight is {weight.shape}, expected (K, C, kh, kw) of a convolution '
                         'over pictures')
    kernels = np.nan_to_num(weight[:MOST].astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if kernels.shape[1] != 3:
        kernels = kernels.mean(axis=1, keepdims=True).repeat(3, axis=1)
    count, _, height, width = kernels.shape
    strength = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    shares = kernels / np.where(strength > 0, strength, 1.0)
    tiles = np.rint(128.0 + 127.0 * shares).astype(np.uint8).transpose(0, 2, 3, 1)
    title = title_of(caption, weight.shape, count, 'first')
    grid = lay_out(count, (height, width), scale, labels, width_of(title, largest[0]), largest,
                   len(str(count - 1)))
    picture = backdrop(grid, tuple(range(count)), title).copy()
    grid.place(picture, edge_to_edge(tiles[:, ::grid.shrink, ::grid.shrink], grid), count)
    return picture


def edge_to_edge(tiles: np.ndarray, grid: Grid) -> np.ndarray:
    """Put tiles (n, h, w, 3) beside and below each other, enlarged."""
    height, width = grid.tile[0] // grid.zoom, grid.tile[1] // grid.zoom
    sheet = np.zeros((grid.rows * grid.columns, height, width, 3), np.uint8)
    sheet[:len(tiles)] = tiles[:, :height, :width]
    sheet = sheet.reshape(grid.rows, grid.columns, height, width, 3).swapaxes(1, 2)
    return enlarged(np.ascontiguousarray(sheet).reshape(
        grid.rows * height, grid.columns * width, 3), grid.zoom)
