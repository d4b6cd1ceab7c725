"""
Drawing the debug pictures.

It has a thread of its own and a mailbox of its own, so that a classification never waits for a
picture: when drawing cannot keep up, pictures are skipped and counted. Compiling the network with
other layers takes a second, and has a third thread: what was seen goes on being seen meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cnn_perception import render
from cnn_perception.answer_pictures import activation_picture, answer_picture
from cnn_perception.classifier import Prediction
from cnn_perception.explain import TopPatches
from cnn_perception.render import MapOptions
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import DebugSettings
from cnn_perception.ros.newest import Letter, Mailbox
from cnn_perception.ros.prepared_taps import PreparedTaps
from cnn_perception.ros.wishes import DASHBOARD_LAYERS, Plan, Wish, Wishes
import numpy as np

__all__ = ['Drawing', 'Pictures']

MOST_LATENCIES = 600
NO_PLAN = Plan({}, '', (), ())


@dataclass(frozen=True)
class Drawing:
    """All that the pictures of one frame are drawn from."""

    camera: Camera
    wish: Wish
    header: Any
    rgb: np.ndarray
    prediction: Prediction
    duration: float

    @property
    def settings(self) -> DebugSettings:
        """Return the settings that the frame was asked about with, and tapped for."""
        return self.wish.settings

    @property
    def plan(self) -> Plan:
        """Return the plan, an empty one before there is any."""
        return self.wish.plan or NO_PLAN

    def has(self, taps: Sequence[str]) -> bool:
        """Tell whether the network told what these layers gave."""
        return all(tap in self.prediction.activations for tap in taps)


class Pictures:
    """Draws the debug pictures of all cameras of a loaded network."""

    def __init__(self, layers: DebugLayers, prepared: PreparedTaps,
                 settings: Callable[[], DebugSettings], warn: Callable[[str], None]) -> None:
        """
        Begin without any picture; settings returns the current ones, warn is throttled.

        prepared: what the network can be run with; it outlives this.
        """
        self.mailbox, self.preparing_mailbox = Mailbox(), Mailbox()
        self._layers = layers
        self._warn = warn
        self._wishes = Wishes(layers, settings, warn)
        self._prepared = prepared
        self._patches: dict[str, tuple[object, TopPatches]] = {}
        self._latencies: dict[str, deque[float]] = {}
        self._told: set[tuple[str, object]] = set()

    # the worker's thread

    def wish(self, camera: Camera) -> Wish | None:
        """Say what is wanted of this camera's next frame; None where nothing is, or not yet."""
        return self._wishes.wish(camera)

    def taps(self, wishes: Sequence[Wish | None]) -> tuple[str, ...]:
        """Return the taps for a batch: of those that are wanted, what is prepared."""
        return self._prepared.usable(self._wishes.taps()) if any(wishes) else ()

    def post(self, drawing: Drawing) -> None:
        """Hand a frame over for drawing; one that is still waiting is skipped and counted."""
        if self.mailbox.put(Letter(drawing.camera.name, drawing)):
            drawing.camera.statistics.count('pictures_skipped')

    # the pictures' thread

    def process(self, letters: list[Letter]) -> None:
        """Draw and publish; then plan what is new, and have it prepared."""
        drawings = [letter.message for letter in letters]
        for drawing in drawings:
            self._draw(drawing)
        self._wishes.plan([(drawing.camera, drawing.wish) for drawing in drawings])
        taps = self._wishes.taps()
        if not self._prepared.is_settled(taps):
            self.preparing_mailbox.put(Letter('', None))

    # the preparing thread

    def prepare(self, letters: list[Letter]) -> None:
        """Prepare what is wanted now; the letter only says that something is."""
        self._prepared.prepare(self._wishes.taps)

    # the pictures' thread again

    def _draw(self, drawing: Drawing) -> None:
        self._latencies.setdefault(drawing.camera.name, deque(maxlen=MOST_LATENCIES)).append(
            drawing.duration)
        made: dict[str, np.ndarray] = {}
        # The dashboard takes what has been drawn.
        for picture in sorted(drawing.wish.pictures, key=lambda name: name == 'dashboard'):
            try:
                rgb = self._picture(picture, drawing, made)
            except Exception as error:  # of somebody's own network
                self._warn(f'debug/{picture} cannot be drawn: {error}')
                continue
            if rgb is not None:
                made[picture] = rgb
                drawing.camera.show(picture, rgb, drawing.header)

    def _picture(self, name: str, drawing: Drawing, made: dict[str, np.ndarray]
                 ) -> np.ndarray | None:
        if name in drawing.plan.layers:
            return self._mosaic(drawing, drawing.plan.layers[name], MapOptions.of_layer)
        if name == 'overlay':
            return self._overlay(drawing, render.legible(drawing.rgb))
        if name == 'edges':
            return render.edges(drawing.rgb)
        if name == 'cam':
            return self._cam(drawing, render.legible(drawing.rgb))
        if name == 'top_patches':
            return self._top_patches(drawing)
        if name == 'dashboard':
            return self._dashboard(drawing, made)
        return None

    def _overlay(self, drawing: Drawing, rgb: np.ndarray) -> np.ndarray:
        return answer_picture(rgb, drawing.prediction, self._layers.classifier.network,
                              drawing.duration, drawing.settings.overlay_classes)

    def _mosaic(self, drawing: Drawing, layer: str,
                size: Callable[[MapOptions, Sequence[int]], dict[str, Any]]) -> np.ndarray | None:
        activation = drawing.prediction.activations.get(layer)
        if activation is None:
            return None
        maps = drawing.settings.maps
        if maps.lacks(activation.shape) and (told := (layer, maps.channels)) not in self._told:
            self._told.add(told)
            self._warn(f"'{layer}' has {len(activation)} channels: not all of debug.channels")
        try:
            return render.mosaic(activation, caption=layer, **size(maps, activation.shape))
        except ValueError as error:
            self._warn(f"layer '{layer}' cannot be drawn: {error}")
            return None

    def _cam(self, drawing: Drawing, rgb: np.ndarray) -> np.ndarray | None:
        settings = drawing.settings
        if not drawing.plan.cam or not self._explained(drawing):
            return None  # as yet: for other classes or layers it may be
        return activation_picture(
            rgb, drawing.prediction, self._layers.classifier.network,
            self._layers.cam(drawing.plan.cam_layer), settings.cam_class, settings.cam_opacity)

    def _explained(self, drawing: Drawing) -> bool:
        return not drawing.plan.cam or self._layers.cam(drawing.plan.cam_layer).explains(
            drawing.prediction, drawing.settings.cam_class)

    def _top_patches(self, drawing: Drawing) -> np.ndarray | None:
        settings = drawing.settings
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

    def _dashboard(self, drawing: Drawing, made: dict[str, np.ndarray]) -> np.ndarray | None:
        whole = drawing.has(drawing.plan.taps) and self._explained(drawing)
        if drawing.wish.plan is None or (
                not whole and not self._prepared.failed(self._wishes.taps())):
            return None  # in a moment; a picture that says that there are none would be wrong
        mosaics = [self._mosaic(drawing, layer, MapOptions.on_dashboard)
                   for layer in list(drawing.plan.layers.values())[:DASHBOARD_LAYERS]]
        # Words are drawn after a small picture has been enlarged, or they would be as coarse.
        rgb = render.for_dashboard(drawing.rgb)
        drawn = made if rgb is drawing.rgb else {}
        overlay, cam = drawn.get('overlay'), drawn.get('cam')
        return render.dashboard(
            self._overlay(drawing, rgb) if overlay is None else overlay,
            self._cam(drawing, rgb) if cam is None else cam,
            mosaics, list(self._latencies[drawing.camera.name]))

    def reset_patches(self) -> None:
        """Forget the patches seen so far."""
        self._patches = {}
