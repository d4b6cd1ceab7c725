"""Everything in one picture, for people who want one display."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from . import style

__all__ = ['MOSAIC_COUNT', 'MOSAIC_SIZE', 'SIZE', 'dashboard', 'for_dashboard']

SIZE = (1280, 720)
"""Width and height of a dashboard in pixels."""
GAP = 6
STRIP = 84
UPPER = 344
LOWER = SIZE[1] - STRIP - UPPER - 4 * GAP
HALF = (SIZE[0] - 3 * GAP) // 2
THIRD = (SIZE[0] - 4 * GAP) // 3
MOSAIC_SIZE = (THIRD, LOWER)
"""Largest (width, height) of a mosaic that is shown as it is; larger ones are made smaller."""
MOSAIC_COUNT = 28
"""How many maps of most sizes fill that best."""
FACE = style.typeface(10.0)
# Enlarged more than this, pixels are better seen than blurred.
BLURRED = 4.0
# Seconds that the scale of the latency strip ends at, the first one that holds them all.
SCALES = tuple(digit * 10.0 ** power for power in range(-4, 3) for digit in (1, 2, 5))


def dashboard(answer: np.ndarray | None, activation: np.ndarray | None,
              mosaics: Sequence[np.ndarray | None], latencies: Sequence[float]) -> np.ndarray:
    """
    Lay out one picture of 1280 x 720, (720, 1280, 3) uint8 RGB.

    answer: the overlay, activation: the class activation map over the picture, mosaics: up to
    three, best drawn as `MapOptions.on_dashboard` says; each is (H, W, 3) uint8 RGB of any size,
    None where there is none yet. latencies: seconds, oldest first; the last 600 are drawn. Raises
    ValueError for more than three mosaics.
    """
    if len(mosaics) > 3:
        raise ValueError(f'a dashboard has room for 3 mosaics, got {len(mosaics)}')
    picture = np.full((SIZE[1], SIZE[0], 3), style.GROUND, np.uint8)
    for index, upper in enumerate((answer, activation)):
        put(picture, upper, GAP + index * (HALF + GAP), GAP, HALF, UPPER,
            ('no picture yet', 'no class activation map')[index])
    for index in range(3):
        mosaic = mosaics[index] if index < len(mosaics) else None
        put(picture, mosaic, GAP + index * (THIRD + GAP), UPPER + 2 * GAP, THIRD, LOWER,
            'no layer', sharp=True)
    strip = picture[SIZE[1] - STRIP - GAP:SIZE[1] - GAP, GAP:SIZE[0] - GAP]
    draw_latencies(strip, latencies)
    return picture


def for_dashboard(frame: np.ndarray) -> np.ndarray:
    """Enlarge a picture (H, W, 3) uint8 smaller than its place, before words come on it."""
    height, width = frame.shape[:2]
    zoom = min(HALF / width, UPPER / height)
    if zoom <= 1.0:
        return frame
    way = cv2.INTER_CUBIC if zoom < BLURRED else cv2.INTER_NEAREST
    return cv2.resize(frame, (max(1, round(zoom * width)), max(1, round(zoom * height))),
                      interpolation=way)


def put(picture: np.ndarray, part: np.ndarray | None, left: int, top: int, width: int,
        height: int, missing: str, sharp: bool = False) -> None:
    """Put a picture, or words where it is missing, into a rectangle of another, in place."""
    room = picture[top:top + height, left:left + width]
    if part is not None:
        small = part.shape[0] <= height and part.shape[1] <= width
        room[:] = (in_line if sharp and small else style.letterbox)(part, width, height)
        return
    room[:] = tuple(channel + 8 for channel in style.GROUND)
    column = (width - style.text_width(missing, FACE)) // 2
    style.write(room, missing, (column, height // 2), FACE, style.BAR_GROUND)


def in_line(part: np.ndarray, width: int, height: int) -> np.ndarray:
    """Put a picture that fits at the top of width x height, so that titles are in one line."""
    box = np.full((height, width, 3), style.GROUND, np.uint8)
    left = (width - part.shape[1]) // 2
    box[:part.shape[0], left:left + part.shape[1]] = part
    return box


def draw_latencies(strip: np.ndarray, latencies: Sequence[float]) -> None:
    """Plot latencies on a strip (H, W, 3), in place: newest at the right, with their median."""
    values = np.array(list(latencies)[-600:], np.float64)
    values = values[np.isfinite(values) & (values >= 0)]
    strip[:] = tuple(channel + 8 for channel in style.GROUND)
    height, width = strip.shape[:2]
    left, right, top, bottom = 130, width - 64, 10, height - 10
    style.write(strip, 'latency', (10, 24), FACE, style.WHITE)
    if not values.size:
        style.write(strip, 'nothing measured yet', (left, height // 2 + 5), FACE,
                    style.BAR_GROUND)
        return
    if values.size == 1:
        style.write(strip, f'{duration(values[0])}, of one picture', (left, height // 2 + 5),
                    FACE, style.GREY)
        return
    end = next((scale for scale in SCALES if scale >= values.max()), float(values.max()))
    for share in (0.0, 0.5, 1.0):
        row = round(bottom - share * (bottom - top))
        cv2.line(strip, (left, row), (right, row), (70, 70, 70), 1)
        style.write(strip, duration(end * share), (right + 6, min(row + 4, height - 2)),
                    style.SMALL, style.GREY)
    median, late = np.median(values), np.percentile(values, 95)
    style.write(strip, f'median {duration(median)}', (10, 46), style.SMALL, style.BAR_BEST)
    style.write(strip, f'95 %   {duration(late)}', (10, 66), style.SMALL, style.GREY)
    # A short history starts at the right edge and grows to the left.
    step = (right - left) / max(120, values.size - 1)
    columns = right - step * np.arange(values.size - 1, -1, -1)
    rows = bottom - values / end * (bottom - top)
    line = np.rint(np.stack([columns, rows], axis=1)).astype(np.int32)
    area = np.concatenate([line, [[line[-1, 0], bottom], [line[0, 0], bottom]]])
    cv2.fillPoly(strip, [area.astype(np.int32)], (44, 74, 104))
    cv2.polylines(strip, [line], False, style.BAR_OTHER, 1, cv2.LINE_AA)
    row = round(bottom - median / end * (bottom - top))
    cv2.line(strip, (left, row), (right, row), style.BAR_BEST, 1)


def duration(seconds: float) -> str:
    """Write a duration in the unit that keeps it short."""
    return f'{1000 * seconds:.3g} ms' if seconds < 0.9995 else f'{seconds:.3g} s'
