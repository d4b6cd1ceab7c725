"""What happens to a frame between its arrival and its answer; runs in the worker's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
import time
from typing import Any

from cnn_perception import render
from cnn_perception.classifier import Classifier, Prediction
from cnn_perception.images import ImageError
from cnn_perception.ros.diagnostics import CameraStatistics
from cnn_perception.ros.image_messages import from_rgb, to_rgb
from cnn_perception.ros.messages import classification
from cnn_perception.ros.newest import Letter
import numpy as np
from rclpy.clock import Clock
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.publisher import Publisher
from rclpy.serialization import deserialize_message
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image

__all__ = ['Camera', 'Pipeline', 'WARNING_PERIOD']

# Seconds between two warnings of one kind.
WARNING_PERIOD = 5.0


@dataclass
class Camera:
    """One camera: its input topic, what is published for it, and what became of its frames."""

    name: str
    topic: str
    message_type: type[Image] | type[CompressedImage]
    answers: Publisher
    overlays: Publisher
    statistics: CameraStatistics = field(default_factory=CameraStatistics)
    last_picture: float = 0.0


@dataclass(frozen=True)
class Frame:
    """A decoded image on its way through the network."""

    camera: Camera
    header: Any
    rgb: np.ndarray


class Pipeline:
    """Decodes, classifies, publishes the answers and then, if watched, draws."""

    def __init__(self, classifier: Classifier, cameras: Mapping[str, Camera],
                 settings: Callable[[], Mapping[str, Any]], clock: Clock,
                 logger: RcutilsLogger) -> None:
        """Hold what is needed; settings returns the node's current parameter values."""
        self._classifier = classifier
        self._cameras = cameras
        self._settings = settings
        self._clock = clock
        self._logger = logger

    def process(self, letters: list[Letter]) -> None:
        """Answer the newest frame of each camera that has one, as one batch."""
        frames = [frame for letter in letters if (frame := self._decode(letter)) is not None]
        if not frames:
            return
        started = time.monotonic()
        try:
            predictions = self._classifier.predict([frame.rgb for frame in frames])
        except (RuntimeError, ValueError, MemoryError) as error:
            for frame in frames:
                frame.camera.statistics.count('failed', str(error))
            self._logger.error(f'the network failed on {len(frames)} frame(s), dropped: {error}',
                               throttle_duration_sec=WARNING_PERIOD)
            return
        duration = time.monotonic() - started
        settings = self._settings()
        for frame, prediction in zip(frames, predictions):
            self._answer(frame, prediction, duration, settings)
        # Every answer leaves before the first picture is drawn.
        for frame, prediction in zip(frames, predictions):
            self._draw(frame, prediction, duration, settings)

    def _decode(self, letter: Letter) -> Frame | None:
        camera = self._cameras[letter.camera]
        try:
            message = deserialize_message(letter.message, camera.message_type)
            return Frame(camera, message.header, to_rgb(message))
        except ImageError as error:
            camera.statistics.count('rejected', str(error))
            self._logger.warning(f'dropped an image of {camera.topic}: {error}',
                                 throttle_duration_sec=WARNING_PERIOD)
            return None

    def _answer(self, frame: Frame, prediction: Prediction, duration: float,
                settings: Mapping[str, Any]) -> None:
        top = prediction.top(settings['top_k'], settings['score_threshold'])
        frame.camera.answers.publish(
            classification(top, frame.header, settings['class_id_format']))
        stamp = Time.from_msg(frame.header.stamp, clock_type=self._clock.clock_type)
        latency = (self._clock.now() - stamp).nanoseconds * 1e-9 if stamp.nanoseconds else 0.0
        frame.camera.statistics.answered(latency, duration)

    def _draw(self, frame: Frame, prediction: Prediction, duration: float,
              settings: Mapping[str, Any]) -> None:
        camera = frame.camera
        if camera.overlays.get_subscription_count() == 0:
            return
        now = time.monotonic()
        if settings['debug.rate'] > 0 and now - camera.last_picture < 1 / settings['debug.rate']:
            camera.statistics.count('pictures_skipped')
            return
        camera.last_picture = now
        top = prediction.top(settings['debug.overlay_classes'])
        caption = f'{self._classifier.network.architecture}   {1000.0 * duration:.1f} ms'
        picture = render.overlay(frame.rgb, [(entry.name, entry.score) for entry in top], caption)
        camera.overlays.publish(from_rgb(picture, frame.header))
