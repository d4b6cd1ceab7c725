"""What is shown of a layer and how, read from the words of parameters and command lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math
import re
from typing import Any

from . import colormaps
from .channels import present
from .dashboard import MOSAIC_COUNT, MOSAIC_SIZE
from .mosaic import MOST

__all__ = ['MapOptions', 'read_channels', 'read_colormap', 'read_normalize']

USUAL = 64
"""Maps of a layer that are shown where nobody says how many."""


@dataclass(frozen=True)
class MapOptions:
    """
    Which maps of a layer are drawn and how; see `mosaic`.

    channels: `first`, `strongest` or channel numbers, of which each layer shows those it has;
    count: how many of the first two. normalize: `map`, `layer` or (low, high).
    """

    channels: str | tuple[int, ...] = 'first'
    count: int = USUAL
    normalize: str | tuple[float, float] = 'map'
    colormap: str = 'viridis'
    scale: int = 0
    labels: bool = True

    def of_layer(self, shape: Sequence[int]) -> dict[str, Any]:
        """Return the keyword arguments of `mosaic` for an activation of this shape."""
        return {'channels': present(self.channels, shape), 'count': self.count,
                'normalize': self.normalize, 'colormap': self.colormap, 'scale': self.scale,
                'labels': self.labels}

    def on_dashboard(self, shape: Sequence[int]) -> dict[str, Any]:
        """Return those for a small mosaic, of few channels and without their numbers."""
        return {**self.of_layer(shape), 'count': min(self.count, MOSAIC_COUNT), 'labels': False,
                'largest': MOSAIC_SIZE}

    def lacks(self, shape: Sequence[int]) -> bool:
        """Tell whether a layer of this shape has some of the channels and not the others."""
        return present(self.channels, shape) not in (self.channels, 'first')


def read_channels(name: str, text: str, most: int = MOST, usual: int = USUAL
                  ) -> tuple[str | tuple[int, ...], int]:
    """
    Read `first 64`, `strongest` or `0, 5, 7`: which channels, and how many of the first two.

    name: of the option, for the ValueError. most: channels at most. usual: how many where no
    number is given.
    """
    if match := re.fullmatch(r'\s*(first|strongest)(?:\s+(\d{1,9}))?\s*', text):
        count = int(match[2] or min(usual, most))
        if 1 <= count <= most:
            return match[1], count
    elif re.fullmatch(r'\s*\d{1,9}((\s+|\s*,\s*)\d{1,9})*\s*', text):
        numbers = tuple(dict.fromkeys(int(number) for number in re.findall(r'\d+', text)))
        if len(numbers) <= most:
            return numbers, most
    raise ValueError(f"{name} is '{text}', expected 'first N', 'strongest N' with N from 1 to "
                     f"{most}, or as many channel numbers such as '0, 5, 7'")


def read_normalize(name: str, text: str) -> str | tuple[float, float]:
    """Read the range of the colours, `map`, `layer` or `low, high`; ValueError otherwise."""
    if text.strip() in ('map', 'layer'):
        return text.strip()
    try:
        low, high = (float(part) for part in text.replace(',', ' ').split())
    except ValueError:
        low = high = 0.0
    if low < high and math.isfinite(low) and math.isfinite(high):
        return low, high
    raise ValueError(f"{name} is '{text}', expected 'map', 'layer' or a range such as '0, 6'")


def read_colormap(name: str, text: str) -> str:
    """Read the name of a colour map; ValueError, with near matches, where there is none."""
    try:
        colormaps.table(text)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error
    return text
