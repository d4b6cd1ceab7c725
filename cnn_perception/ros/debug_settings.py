"""The debug parameters, read and checked once for each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
import re
from typing import Any

from cnn_perception.labels import find_class
from cnn_perception.render import colormap_names, present

__all__ = ['AUTO_TOPICS', 'DebugSettings', 'FIXED_TOPICS', 'read_settings', 'topic_name']

AUTO = 'auto'
# `auto` picks other layers for every network; its topics keep their names, so that an rviz
# layout fits all of them.
AUTO_TOPICS = ('early', 'middle', 'late')
FIXED_TOPICS = ('overlay', 'cam', 'edges', 'top_patches', 'dashboard')
# More maps are too small to see, more rows of patches too many to look at.
MOST_SHOWN, MOST_PATCHED = 1024, 32
RESERVED = (*FIXED_TOPICS, *AUTO_TOPICS, 'filters')


@dataclass(frozen=True)
class DebugSettings:
    """
    What the debug pictures show.

    patterns: of layer names, or `auto`. channels: `first`, `strongest` or channel numbers; count:
    how many of the first two. normalize: `map`, `layer` or (low, high). cam_class: index of the
    class to explain, None for the best one.
    """

    patterns: tuple[str, ...]
    channels: str | tuple[int, ...]
    count: int
    normalize: str | tuple[float, float]
    colormap: str
    scale: int
    labels: bool
    cam_layer: str
    cam_class: int | None
    cam_opacity: float
    patches_layer: str
    patches_channels: int | tuple[int, ...]
    rate: float
    overlay_classes: int

    def mosaic_options(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return the keyword arguments of `render.mosaic` for an activation of this shape."""
        return {'channels': present(self.channels, shape), 'count': self.count,
                'normalize': self.normalize, 'colormap': self.colormap, 'scale': self.scale,
                'labels': self.labels}


def read_settings(values: Mapping[str, Any], class_names: tuple[str, ...] = ()) -> DebugSettings:
    """
    Read the parameters; ValueError names the one that is wrong and what it takes.

    class_names: of the loaded network, for a class given by its name; empty before it is loaded.
    """
    channels, count = read_channels('debug.channels', str(values['debug.channels']))
    chosen, most = read_channels('debug.patches_channels', str(values['debug.patches_channels']),
                                 MOST_PATCHED)
    if chosen == 'first':
        raise ValueError("debug.patches_channels is 'first ...', expected 'strongest N' or "
                         "channel numbers such as '3, 17'")
    colormap = values['debug.colormap']
    if colormap not in colormap_names():
        raise ValueError(f"debug.colormap is '{colormap}', expected one of: "
                         f'{", ".join(colormap_names())}')
    return DebugSettings(
        patterns=tuple(pattern for pattern in values['debug.layers'] if pattern),
        channels=channels, count=count, normalize=read_normalize(values['debug.normalize']),
        colormap=colormap, scale=values['debug.scale'], labels=values['debug.labels'],
        cam_layer=values['debug.cam_layer'],
        cam_class=read_class(str(values['debug.cam_class']), class_names),
        cam_opacity=values['debug.cam_opacity'], patches_layer=values['debug.patches_layer'],
        patches_channels=most if chosen == 'strongest' else chosen,
        rate=values['debug.rate'], overlay_classes=values['debug.overlay_classes'])


def read_channels(name: str, text: str, most: int = MOST_SHOWN
                  ) -> tuple[str | tuple[int, ...], int]:
    """Read `first 64`, `strongest 16` or `0, 5, 7`: at most so many."""
    if match := re.fullmatch(r'\s*(first|strongest)(?:\s+(\d{1,9}))?\s*', text):
        count = int(match[2] or min(64, most))
        if 1 <= count <= most:
            return match[1], count
    elif re.fullmatch(r'\s*\d{1,9}(\s*,\s*\d{1,9})*\s*', text):
        numbers = tuple(dict.fromkeys(int(number) for number in text.split(',')))
        if len(numbers) <= most:
            return numbers, most
    raise ValueError(f"{name} is '{text}', expected 'first N', 'strongest N' with N from 1 to "
                     f"{most}, or as many channel numbers such as '0, 5, 7'")


def read_normalize(text: str) -> str | tuple[float, float]:
    """Read `map`, `layer` or `low, high`."""
    if text in ('map', 'layer'):
        return text
    try:
        low, high = (float(part) for part in text.split(','))
    except ValueError:
        low = high = 0.0
    if low < high and math.isfinite(low) and math.isfinite(high):
        return low, high
    raise ValueError(f"debug.normalize is '{text}', expected 'map', 'layer' or a range such as "
                     "'0, 6'")


def read_class(text: str, names: tuple[str, ...]) -> int | None:
    """Read a class by name or index; empty is the best class of each answer."""
    if not text or not names:
        return None
    try:
        return find_class(text, names)
    except ValueError as error:
        raise ValueError(f'debug.cam_class: {error}; nothing is the best class') from error


def topic_name(layer: str, taken: set[str]) -> str:
    """
    Return a topic for a layer, below ~/debug: `layer1.0.conv1` becomes `layer1_0_conv1`.

    ROS names hold letters, digits and single underscores and do not begin with a digit.
    """
    name = re.sub(r'_+', '_', re.sub(r'[^A-Za-z0-9]', '_', layer)).strip('_')
    if not name or name[0].isdigit() or name in RESERVED:
        name = f'layer_{name}'
    unique, number = name, 2
    while unique in taken:
        unique, number = f'{name}_{number}', number + 1
    return unique
