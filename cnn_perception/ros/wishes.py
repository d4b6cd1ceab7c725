"""
Which debug pictures are wanted of each camera, and what the network must tell for them.

A frame is asked about in the thread that classifies, where nothing may take long; plans are made
in the one that draws. Until the plan for a new wish is made, the one before it serves: what was
seen goes on being seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import time

from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import DebugSettings

__all__ = ['DASHBOARD_LAYERS', 'Plan', 'Wish', 'Wishes']

DASHBOARD_LAYERS = 3
MOST_PLANS = 64  # as many mixtures of viewers as anybody has


@dataclass(frozen=True)
class Plan:
    """
    What pictures are drawn from.

    layers: {topic: layer} to draw. cam_layer: as GradCam takes it; cam: what it taps, () where
    there is no map. taps: all that is needed.
    """

    layers: dict[str, str]
    cam_layer: str
    cam: tuple[str, ...]
    taps: tuple[str, ...]


@dataclass(frozen=True)
class Wish:
    """
    The pictures of one frame that somebody waits for, as they are set at that moment.

    key: what decides on the plan. plan: None where none was made yet for this camera.
    """

    key: tuple
    pictures: frozenset[str]
    settings: DebugSettings
    plan: Plan | None = None

    @property
    def needs_taps(self) -> bool:
        """Tell whether any of the pictures is drawn from what layers gave."""
        return self.plan is not None and bool(self.plan.taps)


class Wishes:
    """The wishes of all cameras; `wish` is for one thread, `plan` for another."""

    def __init__(self, layers: DebugLayers, settings: Callable[[], DebugSettings],
                 warn: Callable[[str], None]) -> None:
        """Begin without any; settings returns the current ones, warn is throttled."""
        self._layers = layers
        self._settings = settings
        self._warn = warn
        self._plans: dict[tuple, Plan] = {}
        self._current: dict[str, tuple[Camera, Wish]] = {}

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
        key = (watched, settings.cam_layer, settings.cam_class, settings.patches_layer,
               tuple(camera.layers().items()))
        _, before = self._current.get(camera.name, (camera, None))
        plan = self._plans.get(key) or (before.plan if before is not None else None)
        wish = Wish(key, watched, settings, plan)
        self._current[camera.name] = camera, wish
        return wish

    def taps(self) -> tuple[str, ...]:
        """
        Return the layers that all cameras' pictures need, sorted, so that one set has one name.

        Those of all cameras, or every mixture of cameras would be a network of its own.
        """
        # A camera that sends no more images has no next frame to forget its viewers with.
        plans = [wish.plan for camera, wish in list(self._current.values()) if camera.watched()]
        return tuple(sorted({tap for plan in plans if plan is not None for tap in plan.taps}))

    def plan(self, asked: Sequence[tuple[Camera, Wish]]) -> None:
        """Make the plans that are missing."""
        for camera, wish in asked:
            if wish.key in self._plans:
                continue
            if len(self._plans) >= MOST_PLANS:
                self._plans.clear()
            self._plans[wish.key] = plan = self._plan(wish)
            self._current[camera.name] = camera, replace(wish, plan=plan)

    def _plan(self, wish: Wish) -> Plan:
        watched, cam_layer, cam_class, _, topics = wish.key
        dashboard = 'dashboard' in watched
        shown = {topic: layer for index, (topic, layer) in enumerate(topics)
                 if topic in watched or (dashboard and index < DASHBOARD_LAYERS)}
        cam: tuple[str, ...] = ()
        taps = [*shown.values()]
        try:
            if 'top_patches' in watched:
                taps.append(self._layers.patches_layer(wish.settings))
            if dashboard or 'cam' in watched:
                cam = self._layers.cam(cam_layer).taps_for(cam_class)
                taps += cam
        except ValueError as error:
            self._warn(f'a debug picture cannot be made: {error}')
        return Plan(shown, cam_layer, cam, tuple(dict.fromkeys(tap for tap in taps if tap)))
