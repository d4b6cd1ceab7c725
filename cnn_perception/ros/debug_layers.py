"""The layers behind the debug topics of one loaded network, found out when they are needed."""

from __future__ import annotations

import threading

from cnn_perception.classifier import Classifier
from cnn_perception.explain import (
    field_of, first_convolution, GradCam, NetworkLayers, resolve_layers, TopPatches)
from cnn_perception.rendering import filters
from cnn_perception.ros.debug_settings import AUTO, AUTO_TOPICS, DebugSettings, topic_name
import numpy as np

__all__ = ['DebugLayers']


class DebugLayers:
    """
    What can be shown of a network; no pass is run for it before somebody wants to see it.

    Safe across threads: the executor asks for topics, the worker for taps, the pictures' thread
    for the rest.
    """

    def __init__(self, classifier: Classifier) -> None:
        """Trace the network; everything else waits until somebody wants to see it."""
        self.classifier = classifier
        self._lock = threading.RLock()
        # Now, because tracing patches torch.nn.Module for the whole process: a forward pass in
        # another thread would end up in the graph.
        self._layers: NetworkLayers | None = None
        self._obstacle = ''
        try:
            classifier.layer_names()
            self._layers = NetworkLayers(classifier)
        except ValueError as error:
            self._obstacle = str(error)
        self._automatic: list[str] | None = None
        self._cams: dict[str, GradCam] = {}

    @property
    def layers(self) -> NetworkLayers:
        """Return the traced network; ValueError where it cannot be traced."""
        if self._layers is None:
            raise ValueError(self._obstacle)
        return self._layers

    def topics(self, settings: DebugSettings) -> dict[str, str]:
        """
        Return {topic below ~/debug: layer}, with `auto:0` ... for layers yet to be picked.

        Raises ValueError with near matches for what names no layer.
        """
        topics: dict[str, str] = {}
        for pattern in settings.patterns:
            if pattern == AUTO:
                topics.update({topic: f'{AUTO}:{index}'
                               for index, topic in enumerate(AUTO_TOPICS)})
                continue
            for layer in resolve_layers([pattern], self.layers.names):
                if layer not in topics.values():
                    topics[topic_name(layer, set(topics))] = layer
        return topics

    def resolve(self, layer: str) -> str:
        """Return the layer that `auto:N` stands for; '' where the network has fewer."""
        if not layer.startswith(f'{AUTO}:'):
            return layer
        with self._lock:
            if self._automatic is None:
                self._automatic = resolve_layers([AUTO], self.layers.names, self.layers.shapes)
            index = int(layer.partition(':')[2])
            return self._automatic[index] if index < len(self._automatic) else ''

    def cam(self, layer: str) -> GradCam:
        """Return the class activation map of a layer, '' for the last; ValueError without one."""
        with self._lock:
            if layer not in self._cams:
                self._cams[layer] = GradCam(self.layers, layer or None)
            return self._cams[layer]

    def patches_layer(self, settings: DebugSettings) -> str:
        """Return the layer whose patches are collected."""
        return settings.patches_layer or self.resolve(f'{AUTO}:1')

    def patches(self, settings: DebugSettings) -> TopPatches:
        """Begin a collection of patches."""
        with self._lock:
            row = field_of(self.layers, self.patches_layer(settings))
        return TopPatches(row, self.classifier.network.preprocessing, settings.patches_channels)

    def check(self, settings: DebugSettings) -> None:
        """Refuse layer names that the network does not have; ValueError with near matches."""
        named = [name for name in (settings.cam_layer, settings.patches_layer) if name]
        if named:
            resolve_layers(named, self.layers.names)

    def kernels(self) -> np.ndarray | None:
        """Draw the first convolution's kernels, or return None for a network without one."""
        found = first_convolution(self.classifier.network.module)
        if found is None:
            return None
        name, weight = found
        return filters(weight, caption=name)
