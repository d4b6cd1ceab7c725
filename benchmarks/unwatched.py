"""What the debug pictures cost while nobody looks at them, in one process, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
import statistics
import time
from typing import Any

from cnn_perception.photographs import photograph
from cnn_perception.ros import parameters
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.log import Throttled
from cnn_perception.ros.newest import Letter
from cnn_perception.ros.pictures import Pictures
from cnn_perception.ros.pipeline import Pipeline
from cnn_perception.ros.running import Loaded
import cv2
import rclpy
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

__all__ = ['unwatched']

# Turns before anything is counted.
COLD = 10


class NoPictures:
    """A node that has no debug pictures at all."""

    def wish(self, camera: Any) -> None:
        """Nobody can look."""

    def taps(self, wishes: Sequence[Any]) -> tuple[str, ...]:
        """Nothing is wanted of the network."""
        return ()


def unwatched(architecture: str, frames: int) -> tuple[float, float]:
    """
    Classify frames in turns with and without the pictures' part of the node.

    Returns the ratios of the median time and of the CPU time, with over without.
    """
    node = rclpy.create_node('classifier')
    settings = {row.name: row.default for row in parameters.CLASSIFIER}
    settings.update(architecture=architecture, weights='none')
    loaded = Loaded(node, settings, 1)
    image = from_rgb(cv2.resize(photograph('cat'), (640, 480)), Header())
    data = serialize_message(image)
    pipelines = [Pipeline(loaded.classifier, loaded.cameras, pictures, lambda: settings,
                          node.get_clock(), Throttled(print), Throttled(print))
                 for pictures in (Pictures(loaded.layers, loaded.prepared, lambda: loaded.debug,
                                           print), NoPictures())]
    wall: list[list[float]] = [[], []]
    busy = [0.0, 0.0]
    for turn in range(-COLD, frames):
        # Who is first in a turn changes, or the second would always find the caches warm.
        for which in (0, 1) if turn % 2 else (1, 0):
            began, worked = time.perf_counter(), time.process_time()
            pipelines[which].process([Letter('', data, time.monotonic_ns())])
            if turn >= 0:
                wall[which].append(time.perf_counter() - began)
                busy[which] += time.process_time() - worked
    loaded.destroy()
    node.destroy_node()
    return statistics.median(wall[0]) / statistics.median(wall[1]), busy[0] / busy[1]
