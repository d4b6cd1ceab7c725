"""A class activation map over the picture: where the network looked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from . import colormaps
from .geometry import input_window
from .overlay import overlay

if TYPE_CHECKING:  # torch is not needed to draw
    from cnn_perception.preprocess import Preprocessing

__all__ = ['heatmap_blend']

# What the network did not see is this much darker.
UNSEEN = 0.55
# A cold place keeps this share of the opacity, so that the extent of the map can be seen.
COLD = 0.25


def heatmap_blend(frame: np.ndarray, heat: np.ndarray, preprocessing: Preprocessing, *,
                  colormap: str = 'jet', opacity: float = 0.6, label: tuple[str, float] | None
                  = None, caption: str = '') -> np.ndarray:
    """
    Blend a class activation map over the picture it was computed for.

    frame: (H, W, 3) uint8 RGB, left as it is. heat: (h, w) in [0, 1], values beyond are cut, NaN
    counts as 0. It covers the network's input and is laid on the part of the frame that
    `preprocessing` makes the input of; the rest is darkened. opacity: in [0, 1], that of the
    hottest place, colder ones are clearer. label: name and score of the class, written below,
    after `caption`. Returns (H, W, 3) uint8 RGB. Raises ValueError for what is none of these.
    """
    if not isinstance(heat, np.ndarray) or heat.ndim != 2 or 0 in heat.shape:
        raise ValueError(f'heat map is {getattr(heat, "shape", type(heat).__name__)}, expected '
                         '(h, w) in [0, 1]')
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f'opacity is {opacity}, expected 0 to 1')
    window = input_window(preprocessing, *frame.shape[:2])
    top, left, bottom, right = window.visible()
    picture = cv2.convertScaleAbs(np.ascontiguousarray(frame), alpha=UNSEEN)
    seen = np.ascontiguousarray(frame[top:bottom, left:right])
    if seen.size:
        warm = spread(heat, window.box(0, 0, *preprocessing.crop), (top, left, bottom, right))
        colours = colormaps.colourise(np.rint(255.0 * warm).astype(np.uint8), colormap)
        weight = opacity * (COLD + (1.0 - COLD) * warm)
        picture[top:bottom, left:right] = cv2.blendLinear(colours, seen, weight, 1.0 - weight)
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), (150, 150, 150), 1)
    if label is None and not caption:
        return picture
    return overlay(picture, [] if label is None else [label], caption)


def spread(heat: np.ndarray, whole: tuple[int, int, int, int],
           part: tuple[int, int, int, int]) -> np.ndarray:
    """
    Enlarge a map (h, w) to the rectangle `whole` and cut `part` out of it, float32 in [0, 1].

    Both are (top, left, bottom, right) on the picture. Only the part is computed: the rectangle
    of a network that pads may be far larger than the picture.
    """
    clean = np.clip(np.nan_to_num(heat.astype(np.float32), nan=0.0), 0.0, 1.0)
    zoom = ((whole[3] - whole[1]) / heat.shape[1], (whole[2] - whole[0]) / heat.shape[0])
    # Centres of pixels map onto centres, as in cv2.resize.
    back = np.array([[1 / zoom[0], 0, (part[1] - whole[1] + 0.5) / zoom[0] - 0.5],
                     [0, 1 / zoom[1], (part[0] - whole[0] + 0.5) / zoom[1] - 0.5]])
    size = part[3] - part[1], part[2] - part[0]
    warm = cv2.warpAffine(clean, back, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)
    return np.clip(warm, 0.0, 1.0)
