"""Many pictures on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from . import style

__all__ = ['contact_sheet']


def contact_sheet(pictures: Sequence[np.ndarray], columns: int = 3, width: int = 480,
                  gap: int = 8) -> np.ndarray:
    """
    Lay out (H, W, 3) uint8 RGB pictures of any sizes in rows, each `width` pixels wide.

    Returns (H, W, 3) uint8; pictures keep their proportions, rows are as high as their highest.
    Raises ValueError without pictures.
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
                     3), style.GROUND, np.uint8)
    top = gap
    for row, height in zip(rows, heights):
        for column, cell in enumerate(row):
            left = gap + column * (width + gap)
            sheet[top:top + cell.shape[0], left:left + width] = cell
        top += height + gap
    return sheet
