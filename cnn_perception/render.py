"""Pictures of answers: (H, W, 3) uint8 RGB in, (H, W, 3) uint8 RGB out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

__all__ = ['contact_sheet', 'overlay']

FONT = cv2.FONT_HERSHEY_DUPLEX
# Height in pixels of a capital letter of the font at scale 1.
CAPITAL = 22.0
PANEL_SHADE = 0.38
WHITE = (255, 255, 255)
GREY = (200, 204, 210)
BAR_BEST = (64, 190, 120)
BAR_OTHER = (88, 150, 214)
BAR_GROUND = (92, 92, 92)
SHEET_GROUND = 24


class Layout(NamedTuple):
    """Measures of the panel in pixels, all from the picture's size."""

    scale: float
    thickness: int
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
    many rows are drawn as fit into half of the height. caption: a line above them. Letters grow
    with the picture, from 9 pixels upwards, so that they can be read at any width.
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
    cv2.convertScaleAbs(panel, dst=panel, alpha=PANEL_SHADE)
    baseline = top + layout.margin + layout.row - round(0.3 * layout.row)
    if caption:
        write(picture, caption, (layout.margin, baseline), layout, GREY,
              width - 2 * layout.margin)
        baseline += layout.row
    for index, (name, score) in enumerate(shown):
        draw_row(picture, name, score, baseline + index * layout.row, layout, index == 0)
    return picture


def measure(height: int, width: int) -> Layout:
    """Choose sizes such that five rows fit a usual picture and the smallest can be read."""
    capital = max(9.0, min(width / 60.0, height / 30.0))
    scale = capital / CAPITAL
    thickness = max(1, round(capital / 13.0))
    number_width = cv2.getTextSize('100.0 %', FONT, scale, thickness)[0][0]
    margin = round(0.7 * capital)
    return Layout(scale, thickness, round(1.9 * capital), margin, max(12, round(0.26 * width)),
                  max(4, round(0.8 * capital)), number_width)


def draw_row(picture: np.ndarray, name: str, score: float, baseline: int, layout: Layout,
             best: bool) -> None:
    """Draw one class: bar, percentage, name."""
    score = min(max(float(score), 0.0), 1.0)
    left, right = layout.margin, layout.margin + layout.bar_width
    upper, lower = baseline - layout.bar_height, baseline
    cv2.rectangle(picture, (left, upper), (right, lower), BAR_GROUND, cv2.FILLED)
    filled = left + round(score * layout.bar_width)
    if filled > left:
        cv2.rectangle(picture, (left, upper), (filled, lower), BAR_BEST if best else BAR_OTHER,
                      cv2.FILLED)
    number = f'{100.0 * score:.1f} %'
    number_width = cv2.getTextSize(number, FONT, layout.scale, layout.thickness)[0][0]
    column = right + layout.margin + layout.number_width
    write(picture, number, (column - number_width, baseline), layout, WHITE)
    start = column + layout.margin
    write(picture, name, (start, baseline), layout, WHITE if best else GREY,
          picture.shape[1] - start - layout.margin)


def write(picture: np.ndarray, text: str, origin: tuple[int, int], layout: Layout,
          colour: tuple[int, int, int], room: int | None = None) -> None:
    """Write text from its lower left corner, shortened with dots where the room ends."""
    # The font holds ASCII only; anything else would show as question marks in pairs.
    text = text.encode('ascii', 'replace').decode()
    if room is not None:
        text = shorten(text, room, layout)
    cv2.putText(picture, text, origin, FONT, layout.scale, colour, layout.thickness, cv2.LINE_AA)


def shorten(text: str, room: int, layout: Layout) -> str:
    """Return as much of a text as fits into `room` pixels."""
    def width(part: str) -> int:
        return cv2.getTextSize(part, FONT, layout.scale, layout.thickness)[0][0]
    if width(text) <= room:
        return text
    while text and width(f'{text}...') > room:
        text = text[:-1]
    return f'{text.rstrip()}...' if text else ''


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 3, width: int = 480,
                  gap: int = 8) -> np.ndarray:
    """
    Lay out (H, W, 3) uint8 RGB pictures of any sizes in rows, each `width` pixels wide.

    Returns (H, W, 3) uint8; pictures keep their proportions, rows are as high as their highest.
    """
    if not pictures:
        raise ValueError('a contact sheet needs at least one picture')
    columns = min(columns, len(pictures))
    cells = [cv2.resize(picture, (width, max(1, round(picture.shape[0] * width
                                                      / picture.shape[1]))),
                        interpolation=cv2.INTER_AREA) for picture in pictures]
    rows = [cells[start:start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) for row in rows]
    sheet = np.full((sum(heights) + gap * (len(rows) + 1), columns * width + gap * (columns + 1),
                     3), SHEET_GROUND, np.uint8)
    top = gap
    for row, height in zip(rows, heights):
        for column, cell in enumerate(row):
            left = gap + column * (width + gap)
            sheet[top:top + cell.shape[0], left:left + width] = cell
        top += height + gap
    return sheet
