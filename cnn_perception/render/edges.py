"""What features were before they were learned: the lectures' 3 x 3 edge filters."""

from __future__ import annotations

import cv2
import numpy as np

from . import style

__all__ = ['EDGE_FILTERS', 'edge_response', 'edges']

EDGE_FILTERS = {
    'horizontal, rising': ((-1, -1, -1), (1, 1, 1), (0, 0, 0)),
    'horizontal, falling': ((0, 0, 0), (1, 1, 1), (-1, -1, -1)),
    'vertical, rising': ((-1, 1, 0), (-1, 1, 0), (-1, 1, 0)),
    'vertical, falling': ((0, 1, -1), (0, 1, -1), (0, 1, -1)),
}
"""Weights, row by row from the top."""

GAP = 4
BAND = 38
# The square root, so that faint edges show beside strong ones.
BRIGHTNESS = np.rint(np.sqrt(np.arange(256) * 255.0)).astype(np.uint8)
CELL = 9
FACE = style.typeface(10.0)


def edge_response(grey: np.ndarray, name: str) -> np.ndarray:
    """
    Apply one of EDGE_FILTERS to (H, W) uint8: correlation, as a convolutional layer computes it.

    Returns (H, W) uint8, the positive part (a ReLU), cut at 255. Border pixels are repeated
    outwards, so that the picture's own border is no edge. Raises ValueError for another name.
    """
    if name not in EDGE_FILTERS:
        raise ValueError(f"no edge filter is called '{name}', expected one of "
                         f'{", ".join(EDGE_FILTERS)}')
    kernel = np.array(EDGE_FILTERS[name], np.float32)
    return cv2.filter2D(grey, cv2.CV_8U, kernel, borderType=cv2.BORDER_REPLICATE)


def edges(frame: np.ndarray, *, width: int = 1280) -> np.ndarray:
    """
    Apply the four filters to a picture and draw the answers beside each other.

    frame: (H, W, 3) uint8 RGB, weighed to grey by ITU-R BT.601 and made smaller where four of it
    would be wider than `width`; never larger. Brightness is the square root of the answer.
    Returns (H, W, 3) uint8 RGB, each answer under its name and its weights: white 1, black -1,
    grey 0. Raises ValueError for a width below 320.
    """
    if width < 320:
        raise ValueError(f'width is {width}, expected at least 320')
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    room = (width - 5 * GAP) // 4
    if grey.shape[1] > room:
        size = room, max(1, round(grey.shape[0] * room / grey.shape[1]))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    height, across = grey.shape
    # A picture narrower than its label stands in the middle of the label's width.
    tile = max(across, 70)
    picture = np.full((BAND + height + GAP, 4 * tile + 5 * GAP, 3), style.GROUND, np.uint8)
    for index, name in enumerate(EDGE_FILTERS):
        left = GAP + index * (tile + GAP)
        start = left + (tile - across) // 2
        picture[BAND:BAND + height, start:start + across] = cv2.LUT(
            edge_response(grey, name), BRIGHTNESS)[..., None]
        draw_kernel(picture, EDGE_FILTERS[name], left, (BAND - 3 * CELL) // 2)
        text = left + 3 * CELL + 8
        style.write(picture, name, (text, BAND // 2 + 5), FACE, style.WHITE,
                    left + tile - text)
    return picture


def draw_kernel(picture: np.ndarray, kernel: tuple[tuple[int, ...], ...], left: int, top: int
                ) -> None:
    """Draw the weights as squares of `CELL` pixels, in place."""
    tones = np.rint(127.5 + 127.5 * np.array(kernel)).astype(np.uint8)
    tones[tones == 128] = 110
    cells = tones.repeat(CELL, axis=0).repeat(CELL, axis=1)
    cells[CELL - 1::CELL] = cells[:, CELL - 1::CELL] = 70
    picture[top:top + 3 * CELL, left:left + 3 * CELL] = cells[..., None]
