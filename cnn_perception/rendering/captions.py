"""The line over a mosaic: layer, shape and choice on the left, range and colours on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import colormaps, style

__all__ = ['FACE', 'LINE', 'NARROWEST', 'blank', 'shape_words', 'write_range']

LINE = 26
"""Height in pixels."""
NARROWEST = 420
"""A picture with a caption is at least this wide, where it may be."""
FACE = style.typeface(10.0)
BASELINE = LINE - 8
MARGIN = 6
BAR = 48
SPACE = '   '


def blank(size: tuple[int, int], title: str) -> np.ndarray:
    """Return ground of (height, width) with a title in its uppermost line, if there is one."""
    picture = np.full((*size, 3), style.GROUND, np.uint8)
    if title:
        style.write(picture, fitted(title, size[1]), (MARGIN, BASELINE), FACE, style.WHITE,
                    size[1] - 2 * MARGIN)
    return picture


def fitted(title: str, width: int) -> str:
    """Leave out the last words of a title, which matter least, until it fits a picture."""
    parts = title.split(SPACE)
    while len(parts) > 1 and style.text_width(SPACE.join(parts), FACE) > width - 2 * MARGIN:
        parts.pop()
    return SPACE.join(parts)


def shape_words(caption: str, shape: tuple[int, ...], shown: int,
                how: str | Sequence[int]) -> str:
    """Compose the left of the line: name, shape, which of the channels."""
    parts = [caption, ' x '.join(str(size) for size in shape)]
    if len(shape) == 3 and shown < shape[0]:
        parts.append(f'{how} {shown}' if isinstance(how, str) else f'{shown} chosen')
    return SPACE.join(parts)


def write_range(picture: np.ndarray, title: str, shown: tuple[float, float], colormap: str,
                each: bool) -> None:
    """
    Write the range of values at the right of the line, as far as the title leaves room.

    shown: the lowest and highest value. each: every map has colours of its own, so that a bar of
    colours between the two would say something wrong.
    """
    used = style.text_width(fitted(title, picture.shape[1]), FACE)
    room = picture.shape[1] - used - 24 - 2 * MARGIN
    low, high = (f'{value:.3g}' for value in shown)
    if each:
        text = f'{low} to {high}, colours span each map'
        if style.text_width(text, FACE) > room:
            text = f'{low} to {high}'
        width = style.text_width(text, FACE)
        if width <= room:
            style.write(picture, text, (picture.shape[1] - MARGIN - width, BASELINE), FACE,
                        style.GREY)
        return
    before, behind = style.text_width(low, FACE), style.text_width(high, FACE)
    if before + behind + BAR + 2 * MARGIN > room:
        return
    column = picture.shape[1] - MARGIN - behind
    style.write(picture, high, (column, BASELINE), FACE, style.GREY)
    column -= MARGIN + BAR
    steps = np.linspace(0, 255, BAR).astype(np.intp)
    picture[BASELINE - 9:BASELINE + 1, column:column + BAR] = colormaps.table(colormap)[steps, 0]
    style.write(picture, low, (column - MARGIN - before, BASELINE), FACE, style.GREY)
