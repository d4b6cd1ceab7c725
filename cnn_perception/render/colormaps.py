"""Colour maps by name: OpenCV's, and grey."""

from __future__ import annotations

import difflib
from functools import lru_cache

import cv2
import numpy as np

__all__ = ['colourise', 'names', 'table']

_PREFIX = 'COLORMAP_'


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """List the colour maps of this OpenCV, and 'grey', sorted."""
    return tuple(sorted([name[len(_PREFIX):].lower() for name in dir(cv2)
                         if name.startswith(_PREFIX)] + ['grey']))


@lru_cache(maxsize=32)
def table(name: str) -> np.ndarray:
    """
    Return a colour map as (256, 1, 3) uint8 RGB, lowest value first, read-only.

    Raises ValueError with near matches for an unknown name.
    """
    wanted = name.lower()
    steps = np.arange(256, dtype=np.uint8)[:, None]
    if wanted in ('grey', 'gray'):
        colours = np.repeat(steps[..., None], 3, axis=2)
    elif wanted in names():
        bgr = cv2.applyColorMap(steps, getattr(cv2, _PREFIX + wanted.upper()))
        colours = np.ascontiguousarray(bgr[..., ::-1])
    else:
        near = difflib.get_close_matches(wanted, names(), n=3)
        raise ValueError(f"no colour map is called '{name}'"
                         + (f'; did you mean {" or ".join(near)}?' if near else '')
                         + f'; expected one of {", ".join(names())}')
    colours.flags.writeable = False
    return colours


def colourise(values: np.ndarray, name: str) -> np.ndarray:
    """Turn (H, W) uint8 into (H, W, 3) uint8 RGB; ValueError for an unknown colour map."""
    if name in ('grey', 'gray'):
        return cv2.cvtColor(values, cv2.COLOR_GRAY2RGB)
    return cv2.applyColorMap(values, table(name))
