"""The layers behind the debug topics of one loaded network."""

from __future__ import annotations

from contextlib import suppress
import threading

from cnn_perception.architectures.errors import shape_text
from cnn_perception.architectures.layer_table import LayerRow
from cnn_perception.classifier import Classifier
from cnn_perception.explain import (
    field_of, field_table, first_convolution, GradCam, is_spatial, maps_of, NetworkLayers,
    resolve_layers, TopPatches)
from cnn_perception.render import filters
from cnn_perception.ros.debug_settings import AUTO, AUTO_TOPICS, DebugSettings, topic_name
import numpy as np

__all__ = ['DebugLayers']


class DebugLayers:
    """
    What can be shown of a network; `obstacle` says why nothing of it can, '' if something.

    Safe across threads: the executor asks for topics, the worker for taps, the pictures' thread
    for the rest.
    """

    def __init__(self, classifier: Classifier) -> None:
        """Trace the network and run it once for the shapes of its layers."""
        self.classifier = classifier
        self._lock = threading.RLock()
        # Now, while no image waits for an answer.
        self._layers: NetworkLayers | None = None
        self.obstacle = 'the network has no layers that give tensors'
        try:
            classifier.layer_names()
            layers = NetworkLayers(classifier)
            if layers.shapes:
                self._layers, self.obstacle = layers, ''
        except (ValueError, RuntimeError, TypeError) as error:  # of somebody's own network
            self.obstacle = str(error)
        self._automatic: list[str] = []
        if self._layers is not None:
            with suppress(ValueError):  # nothing that auto could take
                self._automatic = resolve_layers(
                    [AUTO], self._layers.names, self._layers.shapes)
        self._patches_layer: str | None = None
        self._cams: dict[str, GradCam] = {}
        self._fields: dict[str, LayerRow] = {}

    @property
    def layers(self) -> NetworkLayers:
        """Return the traced network; ValueError where it cannot be traced."""
        if self._layers is None:
            raise ValueError(self.obstacle)
        return self._layers

    def topics(self, settings: DebugSettings) -> dict[str, str]:
        """
        Return {topic below ~/debug: layer}, the topics of `auto` for as many as it finds.

        Raises ValueError with near matches for what names no layer.
        """
        topics: dict[str, str] = {}
        named: set[str] = set()
        for pattern in settings.patterns:
            if pattern == AUTO:
                topics.update(zip(AUTO_TOPICS, self._automatic))
                continue
            for layer in self._resolved('debug.layers', pattern):
                # A block that was asked for keeps its name.
                title = pattern if layer.startswith(f'{pattern}.') else layer
                if title not in named:
                    topics[topic_name(title, set(topics))] = layer
                    named.add(title)
        return topics

    def _resolved(self, parameter: str, pattern: str) -> list[str]:
        """Return the layers that a parameter's pattern stands for; ValueError names both."""
        try:
            return resolve_layers([pattern], self.layers.names, self.layers.shapes)
        except ValueError as error:
            raise ValueError(f'{parameter}: {error}') from error

    def cam(self, layer: str) -> GradCam:
        """Return the class activation map of a layer, '' for the last; ValueError without one."""
        with self._lock:
            if layer not in self._cams:
                # Only the last one is kept: it may hold weights of its own, 100 MB for an AlexNet.
                self._cams = {layer: GradCam(self.layers, layer or None)}
            return self._cams[layer]

    def patches_layer(self, settings: DebugSettings) -> str:
        """Return the layer whose patches are collected, '' where no layer's can be."""
        if name := settings.patches_layer:
            return self._resolved('debug.patches_layer', name)[-1]
        with self._lock:
            if self._patches_layer is None:
                self._patches_layer = self._middle_with_field()
            return self._patches_layer

    def _middle_with_field(self) -> str:
        layers, middle = self.layers, self._automatic[1:2]
        before = layers.names[:layers.names.index(*middle) + 1] if middle else []
        table = field_table(layers)
        for name in reversed([name for name in maps_of(layers.shapes) if name in before]):
            with suppress(ValueError):  # its receptive field is not known
                field_of(layers, name, table)
                return name
        return ''

    def patches(self, settings: DebugSettings) -> TopPatches:
        """Begin a collection of patches."""
        row = self._field(self.patches_layer(settings))
        return TopPatches(row, self.classifier.network.preprocessing, settings.patches_channels)

    def _field(self, layer: str) -> LayerRow:
        """Return a layer's receptive field; ValueError where it is not known."""
        with self._lock:
            if layer not in self._fields:
                self._fields[layer] = field_of(self.layers, layer)
            return self._fields[layer]

    def check(self, settings: DebugSettings) -> None:
        """Refuse layers and channels that the network does not have; ValueError with the cause."""
        if settings.cam_layer:
            self._check_layer('debug.cam_layer', settings.cam_layer)
            self.cam(settings.cam_layer)
        if settings.patches_layer:
            self._check_layer('debug.patches_layer', settings.patches_layer)
            self._field(self.patches_layer(settings))
        if isinstance(settings.maps.channels, tuple):
            self._check_channels(settings, settings.maps.channels)
        if isinstance(settings.patches_channels, tuple):
            name = self.patches_layer(settings)
            channels = self.layers.shapes[name][0] if name else 0
            if name and (missing := max(settings.patches_channels)) >= channels:
                raise ValueError(f"debug.patches_channels has {missing}, but layer '{name}' has "
                                 f'{channels} channels: expected 0 to {channels - 1}')

    def _check_channels(self, settings: DebugSettings, channels: tuple[int, ...]) -> None:
        """Refuse channels that no layer on show has; what only some lack is left out of those."""
        shapes = [self.layers.shapes.get(layer, ())
                  for layer in self.topics(settings).values()]
        most = max((shape[0] for shape in shapes if len(shape) == 3), default=0)
        if most and min(channels) >= most:
            raise ValueError(f'debug.channels is {channels}, but no layer of '
                             f'debug.layers has more than {most} channels: expected 0 to '
                             f'{most - 1}')

    def _check_layer(self, parameter: str, name: str) -> None:
        layers = self.layers
        [*_, layer] = found = self._resolved(parameter, name)
        if layer != name and not layer.startswith(f'{name}.'):
            raise ValueError(f"{parameter} is '{name}', expected the name of one layer, such as "
                             f'{found[-1]}')
        shape = layers.shapes.get(layer, ())
        if not is_spatial(shape, layers.input_shape):
            raise ValueError(f"{parameter} is '{name}', which gives "
                             f"{shape_text(shape) or 'no tensor'}: expected a layer with rows and "
                             'columns (C x h x w)')

    def kernels(self) -> np.ndarray | None:
        """Draw the first convolution's kernels, or return None for a network without one."""
        found = first_convolution(self.classifier.network.module)
        if found is None:
            return None
        name, weight = found
        return filters(weight, caption=name)
