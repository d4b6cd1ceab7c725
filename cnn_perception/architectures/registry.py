"""
The registry: networks that this package has itself, one dictionary and one decorator.

`catalogue` adds torchvision's, timm's and those in YAML files, which can begin from one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cnn_perception.quick_imports import torchvision
from torch import nn

from .errors import ArchitectureError
from .variation import Variation

__all__ = ['build', 'OWN', 'OwnNetwork', 'register', 'torchvision_names']

Builder = Callable[[int, Variation], nn.Module]


@dataclass(frozen=True)
class OwnNetwork:
    """How a network is built, the (C, H, W) that it takes, and its number of classes."""

    build: Builder
    input_shape: tuple[int, int, int]
    classes: int


OWN: dict[str, OwnNetwork] = {}


def register(name: str, input_shape: tuple[int, int, int], classes: int
             ) -> Callable[[Builder], Builder]:
    """
    Enter a function (classes, variation) -> module into the registry, as a decorator.

    input_shape is the network's own (C, H, W), classes its own number of them. Raises
    ArchitectureError where the name is taken, by torchvision too.
    """
    def enter(build: Builder) -> Builder:
        if name in OWN or name in torchvision_names():
            raise ArchitectureError(f'the architecture {name} is registered already: give the '
                                    'new one another name')
        OWN[name] = OwnNetwork(build, input_shape, classes)
        return build
    return enter


def build(name: str, classes: int | None, variation: Variation) -> nn.Module:
    """Build a registered network; classes None is its own number of them."""
    network = OWN[name]
    return network.build(classes or network.classes, variation)


def torchvision_names() -> list[str]:
    """List torchvision's networks that classify images."""
    # Only what lies in torchvision.models itself does; detection, segmentation, video, optical
    # flow and quantised networks lie in modules below it.
    return torchvision.models.list_models(module=torchvision.models)
