"""What happens to a frame between its arrival and its answer; runs in the worker's thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import re
import time
from typing import Any

from cnn_perception.classifier import Classifier, Prediction
from cnn_perception.ros import raw_answer
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.image_messages import to_rgb
from cnn_perception.ros.log import Throttled
from cnn_perception.ros.messages import classification
from cnn_perception.ros.newest import Letter
from cnn_perception.ros.pictures import Drawing, Pictures
from cnn_perception.ros.raw_image import read, SerialisedImage
from cnn_perception.ros.wishes import Wish
import numpy as np
from rclpy.clock import Clock
from sensor_msgs.msg import CompressedImage, Image

__all__ = ['Pipeline']


@dataclass(frozen=True)
class Frame:
    """A decoded image on its way through the network."""

    camera: Camera
    arrival: int
    image: SerialisedImage | Image | CompressedImage
    rgb: np.ndarray


class Pipeline:
    """Decodes, classifies, publishes the answers and then, if watched, has pictures drawn."""

    def __init__(self, classifier: Classifier, cameras: Mapping[str, Camera], pictures: Pictures,
                 settings: Callable[[], Mapping[str, Any]], clock: Clock,
                 warn: Throttled, error: Throttled) -> None:
        """Hold what is needed; settings returns the node's current parameter values."""
        self._classifier = classifier
        self._cameras = cameras
        self._pictures = pictures
        self._settings = settings
        self._clock = clock
        self._warn, self._error = warn, error
        self._closed = False

    def close(self) -> None:
        """Let no answer leave any more: the node has gone on without this thread."""
        self._closed = True

    def process(self, letters: list[Letter]) -> None:
        """Answer the newest frame of each camera that has one, as one batch."""
        frames = [frame for letter in letters if (frame := self._decode(letter)) is not None]
        if frames:
            self._classify(frames)

    def _classify(self, frames: list[Frame]) -> None:
        wishes = [self._pictures.wish(frame.camera) for frame in frames]
        taps = self._pictures.taps(wishes)
        drawings: list[Drawing] = []
        # Layers are told picture by picture, and copied: of those alone whose camera is watched.
        for tapped in (False, True):
            asked = [(frame, wish) for frame, wish in zip(frames, wishes)
                     if (wish is not None and wish.needs_taps and bool(taps)) is tapped]
            if asked:
                drawings += self._answered(asked, taps if tapped else ())
        # Every answer leaves before the first picture is begun.
        for drawing in drawings:
            self._pictures.post(drawing)

    def _answered(self, asked: list[tuple[Frame, Wish | None]], taps: tuple[str, ...]
                  ) -> list[Drawing]:
        """Classify as one batch and publish the answers; returns what is to be drawn."""
        started = time.monotonic()
        try:
            predictions = self._classifier.predict([frame.rgb for frame, _ in asked], taps)
        except (RuntimeError, ValueError, MemoryError) as error:
            if len(asked) > 1:
                # One camera's frame must not cost the others theirs.
                return [drawing for one in asked for drawing in self._answered([one], taps)]
            [(frame, _)] = asked
            frame.camera.statistics.count('failed', problem=str(error))
            self._error(f'the network failed on a frame of {frame.camera.topic}, dropped: {error}',
                        kind_of(frame.camera, error))
            return []
        if self._closed:
            return []
        duration = time.monotonic() - started
        settings = self._settings()
        for (frame, _), prediction in zip(asked, predictions):
            self._answer(frame, prediction, duration, settings)
        return [Drawing(frame.camera, wish, frame.image.header, frame.rgb, prediction, duration)
                for (frame, wish), prediction in zip(asked, predictions) if wish is not None]

    def _decode(self, letter: Letter) -> Frame | None:
        camera = self._cameras[letter.camera]
        try:
            image = read(letter.message, camera.message_type)
            rgb = to_rgb(image)
            self._classifier.check(rgb)
            return Frame(camera, letter.arrival, image, rgb)
        except ValueError as error:  # an ImageError, or a picture that cannot be prepared
            camera.statistics.count('rejected', problem=str(error))
            self._warn(f'dropped an image of {camera.topic}: {error}', kind_of(camera, error))
            return None

    def _answer(self, frame: Frame, prediction: Prediction, duration: float,
                settings: Mapping[str, Any]) -> None:
        top = prediction.top(settings['top_k'], settings['score_threshold'])
        image, form = frame.image, settings['class_id_format']
        # A middleware whose images could be read as bytes takes answers in the same layout.
        frame.camera.answer(
            raw_answer.write(top, image, form) if isinstance(image, SerialisedImage)
            else classification(top, image.header, form))
        in_node = (time.monotonic_ns() - frame.arrival) * 1e-9
        # Not as a Time, which takes no stamp before 1970.
        stamp = image.header.stamp.sec * 10 ** 9 + image.header.stamp.nanosec
        now = self._clock.now().nanoseconds  # 0 until a simulation has sent a time
        latency = (now - stamp) * 1e-9 if stamp and now else None
        frame.camera.statistics.answered(latency, in_node, duration)


def kind_of(camera: Camera, error: Exception) -> str:
    """Name a camera's trouble, whatever its numbers are, apart from its other trouble."""
    # Pairs of hexadecimal digits are bytes.
    return f'{camera.topic}: ' + re.sub(r'\b[0-9a-f]{2}\b|\d+', '', str(error))
