"""The line over a mosaic: layer, shape and choice on the left, range and colours on the right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import colormaps, style

__all__ = ['FACE', 'LINE', 'blank', 'longest', 'title_of', 'width_of', 'write_range']

LINE = 26
"""Height in pixels."""
NARROWEST = 420
FACE = style.typeface(10.0)
BASELINE = LINE - 8
MARGIN = 6
BAR = 48
APART = 24
SPACE = '   '
# What is said of maps that have colours of their own, as far as there is room.
EACH = ('colours span each map', 'each its own')
# What most ranges take at the right: by the very one, the title would jump from frame to frame.
RANGE = style.text_width('-0.00 to -0.00', FACE)


def width_of(title: str, largest: int) -> int:
    """Return the width of a picture on which all of the line can be read; 0 without a title."""
    if not title:
        return 0
    return min(largest, max(NARROWEST, 2 * MARGIN + style.text_width(title, FACE) + APART + RANGE))


def blank(size: tuple[int, int], title: str) -> np.ndarray:
    """Return ground of (height, width) with a title in its uppermost line, if there is one."""
    picture = np.full((*size, 3), style.GROUND, np.uint8)
    if title:
        style.write(picture, fitted(title, size[1]), (MARGIN, BASELINE), FACE, style.WHITE,
                    size[1] - 2 * MARGIN)
    return picture


def fitted(title: str, width: int) -> str:
    """
    Shorten a title so that the range has room beside it on a picture so wide.

    First the choice goes, then the beginning of the name, which most layers have in common.
    """
    room = title_room(width)
    name, *rest = title.split(SPACE)
    if style.text_width(title, FACE) > room:
        rest = rest[:1]
    cut = name
    while len(name) > 1 and style.text_width(SPACE.join([cut, *rest]), FACE) > room:
        # At the dots between its parts, as long as there are any.
        name = name.partition('.')[2] or name[1:]
        cut = f'...{name}'
    return SPACE.join([cut, *rest])


def longest(parts: Sequence[str], width: int) -> str:
    """Compose a title of the first parts, as many as a picture so wide has room for."""
    kept = [*parts]
    while len(kept) > 1 and style.text_width(SPACE.join(kept), FACE) > title_room(width):
        kept.pop()
    return SPACE.join(kept)


def title_room(width: int) -> int:
    """Return how wide a title may be beside the range, on a picture so wide."""
    return width - 2 * MARGIN - APART - RANGE


def title_of(caption: str, shape: tuple[int, ...], shown: int, how: str | Sequence[int]) -> str:
    """Compose the left of the line: name, shape, which of the channels; '' without a name."""
    if not caption:
        return ''
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
    room = picture.shape[1] - used - APART - 2 * MARGIN
    low, high = (f'{value:.3g}' for value in shown)
    before, behind = style.text_width(low, FACE), style.text_width(high, FACE)
    if each or before + behind + BAR + 2 * MARGIN > room:
        text = f'{low} to {high}'
        if each:
            text = next((longer for note in EACH if style.text_width(
                longer := f'{text}, {note}', FACE) <= room), text)
        width = style.text_width(text, FACE)
        if width <= room + APART - MARGIN:
            style.write(picture, text, (picture.shape[1] - MARGIN - width, BASELINE), FACE,
                        style.GREY)
        return
    column = picture.shape[1] - MARGIN - behind
    style.write(picture, high, (column, BASELINE), FACE, style.GREY)
    column -= MARGIN + BAR
    steps = np.linspace(0, 255, BAR).astype(np.intp)
    picture[BASELINE - 9:BASELINE + 1, column:column + BAR] = colormaps.table(colormap)[steps, 0]
    style.write(picture, low, (column - MARGIN - before, BASELINE), FACE, style.GREY)
