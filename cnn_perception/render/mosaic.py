"""
What a layer sees: its activation maps side by side, after Zeiler and Fergus (arXiv:1311.2901).

One pass over all maps instead of a loop, and everything that does not change from frame to frame
is drawn once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from . import colormaps
from .captions import title_of, width_of, write_range
from .channels import as_maps, extremes, pick, strengths
from .grid import backdrop, Grid, lay_out
from .strip import strip

__all__ = ['LARGEST', 'MOST', 'Normalisation', 'mosaic']

Normalisation = str | tuple[float, float]

LARGEST = (1280, 960)
"""Width and height in pixels that a mosaic has at most, unless told otherwise."""
MOST = 1024
"""Maps that a mosaic shows at most."""
FARTHEST = float(np.finfo(np.float32).max)


def mosaic(activation: np.ndarray, *, channels: str | Sequence[int] = 'first', count: int = 64,
           normalize: Normalisation = 'map', colormap: str = 'viridis', scale: int = 0,
           labels: bool = True, caption: str = '', largest: tuple[int, int] = LARGEST
           ) -> np.ndarray:
    """
    Draw the activation of a layer as one picture (H, W, 3) uint8 RGB.

    activation: maps (C, h, w) float32, or a vector (F,), which is shown as a strip of all its
    units. channels, count: see `channels.pick`. normalize: the range of values that the colours
    span, `map` (each map its own), `layer` (all channels together) or a fixed (low, high); values
    beyond are cut, NaN shows as the lowest. colormap: see `colormaps.names`. scale: whole zoom of
    a map's pixels, 0 chooses one; either is reduced, and large maps are shrunk, so that the
    picture keeps within `largest` (width, height). labels: channel numbers. caption: the layer's
    name, to which shape and range are added; empty leaves the line out.

    Raises TypeError and ValueError for what is no activation and for options that mean nothing.
    """
    if type(scale) is not int or scale < 0:
        raise ValueError(f'scale is {scale!r}, expected a whole number, 0 for automatic')
    vector = isinstance(activation, np.ndarray) and activation.ndim == 1
    maps = as_maps(activation[None, None] if vector else activation)
    low, high, clean = extremes(maps)
    # Only these can lie outside of the range that is shown.
    cut = not clean or not isinstance(normalize, str)
    bottom, top = span(normalize, low, high)
    if vector:
        title = title_of(caption, activation.shape, 1, 'first')
        picture = strip(to_bytes(maps, bottom, top, cut)[0, 0], colormap, labels, title, largest)
    else:
        chosen = pick(len(maps), channels, min(count, MOST),
                      strengths(maps) if channels == 'strongest' else None)[:MOST]
        title = title_of(caption, activation.shape, len(chosen), channels)
        grid = lay_out(len(chosen), (maps.shape[1], maps.shape[2]), scale,
                       labels and activation.ndim == 3, width_of(title, largest[0]), largest,
                       len(str(chosen.max())))
        if len(chosen) != len(maps) or channels != 'first':
            maps, bottom, top = maps[chosen], bottom[chosen], top[chosen]
        values = to_bytes(shrunk(maps, grid.shrink), bottom, top, cut)
        picture = backdrop(grid, tuple(chosen.tolist()), title).copy()
        grid.place(picture, arranged(values, grid, colormap), len(chosen))
    if title:
        # A fixed range is what the colours mean, whatever the values are.
        shown = (float(low.min()), float(high.max())) if isinstance(normalize, str) else normalize
        write_range(picture, title, shown, colormap, normalize == 'map' and not vector)
    return picture


def span(normalize: Normalisation, low: np.ndarray, high: np.ndarray
         ) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest shown value of each map, (C,) each."""
    if isinstance(normalize, str):
        if normalize == 'map':
            return low, high
        if normalize == 'layer':
            return np.full_like(low, low.min()), np.full_like(high, high.max())
        raise ValueError(f"normalize is '{normalize}', expected 'map', 'layer' or a range "
                         '(low, high)')
    if len(normalize) != 2 or not (np.isfinite(normalize).all() and normalize[0] < normalize[1]):
        raise ValueError(f'normalize is {tuple(normalize)}, expected a range (low, high) of '
                         'finite numbers with low below high')
    return np.full_like(low, normalize[0]), np.full_like(high, normalize[1])


def to_bytes(maps: np.ndarray, low: np.ndarray, high: np.ndarray, cut: bool) -> np.ndarray:
    """
    Map low to 0 and high to 255, rounded: (n, h, w) float32 -> (n, h, w) uint8.

    low, high: (n,). cut: whether values may lie outside, or not be finite; what is no number
    becomes 0.
    """
    width = high.astype(np.float64) - low
    # A constant map has no range to spread: all of it is the lowest colour.
    factor = np.where(width > 1e-35, 255.0 / np.maximum(width, 1e-35), 0.0)
    # Half a step is added here rather than to every value, as conversion cuts fractions off.
    start = low - np.where(factor > 0, 0.5 / np.maximum(factor, 1e-38), 0.0)
    start = start.clip(-FARTHEST, FARTHEST).astype(np.float32)
    factor = factor.astype(np.float32)
    with np.errstate(over='ignore', invalid='ignore'):
        values = maps - start[:, None, None]
        values *= factor[:, None, None]
        # The widest ranges overflow, and so leave the range of a byte.
        if cut or width.max() > FARTHEST / 4:
            np.fmax(values, 0.0, out=values)
            np.minimum(values, 255.0, out=values)
    return values.astype(np.uint8)


def shrunk(maps: np.ndarray, factor: int) -> np.ndarray:
    """Average over factor x factor pixels; what is left over at the far edges is cut off."""
    if factor == 1:
        return maps
    count, height, width = maps.shape
    size = max(1, height // factor), max(1, width // factor)
    if height >= factor and width >= factor:
        maps = maps[:, :size[0] * factor, :size[1] * factor]
    # All maps below each other are one tall picture, cut between pixels that belong together.
    tall = np.ascontiguousarray(maps).reshape(-1, maps.shape[2])
    return cv2.resize(tall, (size[1], count * size[0]), interpolation=cv2.INTER_AREA).reshape(
        count, *size)


def arranged(values: np.ndarray, grid: Grid, colormap: str) -> np.ndarray:
    """Colour maps (n, h, w) uint8 and put them edge to edge, in rows, enlarged."""
    count, height, width = values.shape
    cells = np.zeros((grid.rows * grid.columns, height, width), np.uint8)
    cells[:count] = values
    sheet = np.ascontiguousarray(
        cells.reshape(grid.rows, grid.columns, height, width).swapaxes(1, 2))
    coloured = colormaps.colourise(
        sheet.reshape(grid.rows * height, grid.columns * width), colormap)
    return enlarged(coloured, grid.zoom)


def enlarged(picture: np.ndarray, zoom: int) -> np.ndarray:
    """Enlarge a picture (H, W, 3) by a whole number; pixels stay squares."""
    if zoom == 1:
        return picture
    return cv2.resize(picture, (picture.shape[1] * zoom, picture.shape[0] * zoom),
                      interpolation=cv2.INTER_NEAREST)
