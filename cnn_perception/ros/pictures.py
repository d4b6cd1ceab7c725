"""
The debug pictures: which are wanted, what the network must tell for them, and drawing them.

Drawing has a thread of its own and a mailbox of its own, so that a classification never waits
for a picture: when drawing cannot keep up, pictures are skipped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
import time
from typing import Any

from cnn_perception import rendering
from cnn_perception.classifier import Prediction
from cnn_perception.explain import TopPatches
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import DebugSettings
from cnn_perception.ros.newest import Letter, Mailbox
from cnn_perception.ros.prepared_taps import PreparedTaps
import numpy as np

__all__ = ['Drawing', 'Pictures', 'Wish']

MOST_LATENCIES, DASHBOARD_LAYERS = 600, 3
MOST_PLANS = 64  # as many mixtures of viewers as anybody has


@dataclass(frozen=True)
class Wish:
    """
    The pictures of one frame that somebody waits for, and the taps that they need.

    key: what the plan was made for. layers: {topic: layer} to draw. cam, taps: layer names; both
    are empty until the pictures' thread has made the plan.
    """

    key: tuple
    pictures: frozenset[str]
    layers: dict[str, str] = field(default_factory=dict)
    cam: tuple[str, ...] = ()
    taps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """All that the pictures of one frame are drawn from."""

    camera: Camera
    wish: Wish
    header: Any
    rgb: np.ndarray
    prediction: Prediction
    duration: float


class Pictures:
    """Decides on, and draws, the debug pictures of all cameras of a loaded network."""

    def __init__(self, layers: DebugLayers, settings: Callable[[], DebugSettings],
                 warn: Callable[[str], None]) -> None:
        """Begin without any picture; settings returns the current ones, warn is throttled."""
        self.mailbox = Mailbox()
        self._layers = layers
        self._settings = settings
        self._warn = warn
        self._prepared = PreparedTaps(layers.classifier, warn)
        self._plans: dict[tuple, Wish] = {}
        self._current: dict[str, tuple[Camera, Wish]] = {}
        self._patches: dict[str, tuple[object, TopPatches]] = {}
        self._latencies: dict[str, deque[float]] = {}

    # the worker's thread

    def wish(self, camera: Camera) -> Wish | None:
        """Say what is wanted of this camera's next frame; None where nothing is, or not yet."""
        watched = frozenset(camera.watched())
        if not watched:
            self._current.pop(camera.name, None)
            return None
        settings = self._settings()
        now = time.monotonic()
        if settings.rate > 0:
            period = 1.0 / settings.rate
            if now < camera.last_picture + period:
                return None
            # Counted from when it was due: from the frame, every jitter would skip a whole one.
            camera.last_picture = max(camera.last_picture, now - 2.0 * period) + period
        key = (camera.name, watched, settings, tuple(camera.layers().items()))
        wish = self._plans.get(key) or Wish(key, watched)
        self._current[camera.name] = camera, wish
        return wish

    def taps(self, wishes: Sequence[Wish | None]) -> tuple[str, ...]:
        """Return the taps for a batch; () until the network that has them is prepared."""
        if not any(wishes):
            return ()
        # Those of all cameras, or every mixture of cameras would be a network of its own.
        taps = self._wanted()
        return taps if self._prepared.ready(taps) else ()

    def post(self, drawing: Drawing) -> None:
        """Hand a frame over for drawing; one that is still waiting is skipped and counted."""
        if self.mailbox.put(Letter(drawing.camera.name, drawing, time.monotonic_ns())):
            drawing.camera.statistics.count('pictures_skipped')

    # the pictures' thread

    def process(self, letters: list[Letter]) -> None:
        """Draw and publish; then plan and prepare what is new, which no classification awaits."""
        drawings = [letter.message for letter in letters]
        for drawing in drawings:
            self._draw(drawing)
        for drawing in drawings:
            if drawing.wish.key not in self._plans:
                if len(self._plans) >= MOST_PLANS:
                    self._plans.clear()
                self._plans[drawing.wish.key] = self._plan(drawing.wish)
                self._current[drawing.camera.name] = (
                    drawing.camera, self._plans[drawing.wish.key])
        self._prepared.prepare(self._wanted())

    def _wanted(self) -> tuple[str, ...]:
        # A camera that sends no more images has no next frame to forget its viewers with.
        return union(wish for camera, wish in list(self._current.values()) if camera.watched())

    def _plan(self, wish: Wish) -> Wish:
        _, watched, settings, topics = wish.key
        dashboard = 'dashboard' in watched
        shown = {topic: layer for index, (topic, layer) in enumerate(topics)
                 if topic in watched or (dashboard and index < DASHBOARD_LAYERS)}
        layers: dict[str, str] = {}
        cam: tuple[str, ...] = ()
        taps: list[str] = []
        try:
            layers = {topic: resolved for topic, layer in shown.items()
                      if (resolved := self._layers.resolve(layer))}
            taps += layers.values()
            if 'top_patches' in watched:
                taps.append(self._layers.patches_layer(settings))
            if dashboard or 'cam' in watched:
                cam = tuple(self._layers.cam(settings.cam_layer).taps)
                taps += cam
        except ValueError as error:
            self._warn(f'a debug picture cannot be made: {error}')
        return Wish(wish.key, wish.pictures, layers, cam,
                    tuple(dict.fromkeys(tap for tap in taps if tap)))

    def _draw(self, drawing: Drawing) -> None:
        settings = self._settings()
        self._latencies.setdefault(drawing.camera.name, deque(maxlen=MOST_LATENCIES)).append(
            drawing.duration)
        made: dict[str, np.ndarray] = {}
        # The dashboard takes what has been drawn.
        for picture in sorted(drawing.wish.pictures, key=lambda name: name == 'dashboard'):
            try:
                rgb = self._picture(picture, drawing, settings, made)
            except (ValueError, RuntimeError) as error:
                self._warn(f'debug/{picture} cannot be drawn: {error}')
                continue
            if rgb is not None:
                made[picture] = rgb
                drawing.camera.show(picture, rgb, drawing.header)

    def _picture(self, name: str, drawing: Drawing, settings: DebugSettings,
                 made: dict[str, np.ndarray]) -> np.ndarray | None:
        if name in drawing.wish.layers:
            return self._mosaic(drawing, settings, drawing.wish.layers[name])
        if name == 'overlay':
            return self._overlay(drawing, settings)
        if name == 'edges':
            return rendering.edges(drawing.rgb)
        if name == 'cam':
            return self._cam(drawing, settings)
        if name == 'top_patches':
            return self._top_patches(drawing, settings)
        if name == 'dashboard':
            return self._dashboard(drawing, settings, made)
        return None

    def _overlay(self, drawing: Drawing, settings: DebugSettings) -> np.ndarray:
        top = drawing.prediction.top(settings.overlay_classes)
        network = self._layers.classifier.network
        return rendering.overlay(
            drawing.rgb, [(entry.name, entry.score) for entry in top],
            f'{network.architecture}   {1000.0 * drawing.duration:.1f} ms')

    def _mosaic(self, drawing: Drawing, settings: DebugSettings, layer: str,
                **options: Any) -> np.ndarray | None:
        activation = drawing.prediction.activations.get(layer)
        if activation is None:
            return None
        options = {**settings.mosaic_options(activation.shape), **options}
        if options['channels'] not in (settings.channels, 'first'):
            self._warn(f"'{layer}' has {len(activation)} channels: not all of debug.channels")
        try:
            return rendering.mosaic(activation, caption=layer, **options)
        except ValueError as error:
            self._warn(f"layer '{layer}' cannot be drawn: {error}")
            return None

    def _cam(self, drawing: Drawing, settings: DebugSettings) -> np.ndarray | None:
        activations = drawing.prediction.activations
        if not drawing.wish.cam or any(tap not in activations for tap in drawing.wish.cam):
            return None
        best = drawing.prediction.top(1)[0].index
        index = best if settings.cam_class is None else settings.cam_class
        heat = self._layers.cam(settings.cam_layer).map(activations, index)
        label = (drawing.prediction.labels[index], float(drawing.prediction.scores[index]))
        return rendering.heatmap_blend(
            drawing.rgb, heat, self._layers.classifier.network.preprocessing,
            opacity=settings.cam_opacity, label=label)

    def _top_patches(self, drawing: Drawing, settings: DebugSettings) -> np.ndarray | None:
        layer = self._layers.patches_layer(settings)
        if not layer:
            raise ValueError('no layer of this network has rows and columns')
        activation = drawing.prediction.activations.get(layer)
        if activation is None:
            return None
        key = (layer, settings.patches_channels)
        kept = self._patches.get(drawing.camera.name)
        if kept is None or kept[0] != key:
            kept = self._patches[drawing.camera.name] = (key, self._layers.patches(settings))
        kept[1].update(drawing.rgb, activation)
        return kept[1].picture()

    def _dashboard(self, drawing: Drawing, settings: DebugSettings,
                   made: dict[str, np.ndarray]) -> np.ndarray:
        mosaics = [self._mosaic(drawing, settings, layer, largest=rendering.MOSAIC_SIZE,
                                count=rendering.MOSAIC_COUNT, labels=False)
                   for layer in list(drawing.wish.layers.values())[:DASHBOARD_LAYERS]]
        overlay = made.get('overlay')
        cam = made.get('cam')
        return rendering.dashboard(
            self._overlay(drawing, settings) if overlay is None else overlay,
            self._cam(drawing, settings) if cam is None else cam,
            mosaics, list(self._latencies[drawing.camera.name]))

    def reset_patches(self) -> None:
        """Forget the patches seen so far."""
        self._patches = {}


def union(wishes: Iterable[Wish]) -> tuple[str, ...]:
    """Return the taps of several wishes, sorted, so that one set has one name."""
    return tuple(sorted({tap for wish in list(wishes) for tap in wish.taps}))
