"""The debug parameters, read and checked once for each change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import re
from typing import Any

from cnn_perception.labels import find_class
from cnn_perception.render.map_options import (
    MapOptions, read_channels, read_colormap, read_normalize)

__all__ = ['AUTO_TOPICS', 'DebugSettings', 'FIXED_TOPICS', 'read_settings', 'topic_name']

AUTO = 'auto'
# `auto` picks other layers for every network; its topics keep their names, so that an rviz
# layout fits all of them.
AUTO_TOPICS = ('early', 'middle', 'late')
FIXED_TOPICS = ('overlay', 'cam', 'edges', 'top_patches', 'dashboard')
# More rows of patches are too many to look at.
MOST_PATCHED = 32
RESERVED = (*FIXED_TOPICS, *AUTO_TOPICS, 'filters')


@dataclass(frozen=True)
class DebugSettings:
    """
    What the debug pictures show.

    patterns: of layer names, or `auto`. maps: how a layer is drawn. cam_class: index of the class
    to explain, None for the best one.
    """

    patterns: tuple[str, ...]
    maps: MapOptions
    cam_layer: str
    cam_class: int | None
    cam_opacity: float
    patches_layer: str
    patches_channels: int | tuple[int, ...]
    rate: float
    overlay_classes: int


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
    maps = MapOptions(
        channels, count, read_normalize('debug.normalize', values['debug.normalize']),
        read_colormap('debug.colormap', values['debug.colormap']), values['debug.scale'],
        values['debug.labels'])
    return DebugSettings(
        patterns=tuple(pattern for pattern in values['debug.layers'] if pattern), maps=maps,
        cam_layer=values['debug.cam_layer'],
        cam_class=read_class(str(values['debug.cam_class']), class_names),
        cam_opacity=values['debug.cam_opacity'], patches_layer=values['debug.patches_layer'],
        patches_channels=most if chosen == 'strongest' else chosen,
        rate=values['debug.rate'], overlay_classes=values['debug.overlay_classes'])


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
