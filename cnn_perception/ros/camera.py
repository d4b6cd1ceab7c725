"""One camera: where its images come from, where its answers and pictures go, how they fare."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
import threading
import time

from cnn_perception.ros.debug_settings import FIXED_TOPICS
from cnn_perception.ros.diagnostics import CameraStatistics
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.transport_watch import TransportWatch
import numpy as np
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

__all__ = ['Camera', 'image_topic']

ANSWERS = QoSProfile(depth=10)
# A reliable writer matches every reader; one picture is enough for a viewer.
PICTURES = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
# Seconds between two looks at who subscribes: asking for every frame costs 1 % of a fast network.
LOOK_PERIOD = 0.1


class Camera:
    """
    The topics and statistics of one camera.

    name: as in the parameter `cameras`, '' for the only one. Its images come from `topic`, its
    answers go to ~/`name`/classification and its pictures to ~/`name`/debug/....
    Publishers come and go in the executor's thread while the pictures' thread uses them.
    """

    def __init__(self, node: Node, name: str, topic: str, compressed: bool) -> None:
        """Create the publishers; the caller subscribes to `topic`, which `image_topic` gives."""
        self.name = name
        self.statistics = CameraStatistics()
        self.transport = TransportWatch(get_rmw_implementation_identifier())
        self.message_type: type = CompressedImage if compressed else Image
        self.type_name = f'sensor_msgs/msg/{self.message_type.__name__}'
        self.topic = topic
        self.last_picture = 0.0
        self.reliable = False
        self._node = node
        self._base = '/'.join(filter(None, ['~', name]))
        self._lock = threading.Lock()
        self._answers = node.create_publisher(
            Classification, f'{self._base}/classification', ANSWERS)
        self._pictures: dict[str, Publisher] = {}
        self._layers: dict[str, str] = {}
        self._watched: set[str] = set()
        self._looked = 0.0
        for picture in FIXED_TOPICS:
            self._create(picture)

    def _create(self, picture: str) -> None:
        self._pictures[picture] = self._node.create_publisher(
            Image, f'{self._base}/debug/{picture}', PICTURES)

    def answer(self, message: Classification | bytes) -> None:
        """Publish an answer, which may be serialised already."""
        self._answers.publish(message)

    def check_layers(self, layers: Mapping[str, str]) -> None:
        """Refuse, with ValueError, topics that ROS does not have, as they may become too long."""
        for picture, layer in layers.items():
            try:
                resolved(self._node, f'{self._base}/debug/{picture}')
            except ValueError as error:
                raise ValueError(f"debug.layers: layer '{layer}' cannot have the topic "
                                 f'{self._base}/debug/{picture}: {error}') from error

    def set_layers(self, layers: Mapping[str, str]) -> None:
        """Offer a topic for each {topic: layer}; those that stay are not interrupted."""
        with self._lock:
            for picture in [*self._layers]:
                if picture not in layers:
                    self._node.destroy_publisher(self._pictures.pop(picture))
            for picture in layers:
                if picture not in self._pictures:
                    self._create(picture)
            self._layers = dict(layers)
            self._watched = self._watched & self._pictures.keys()

    def layers(self) -> dict[str, str]:
        """Return {topic: layer} of the layer topics."""
        with self._lock:
            return dict(self._layers)

    def watched(self) -> set[str]:
        """Return the pictures that somebody subscribed to when this was last looked at."""
        with self._lock:
            if (now := time.monotonic()) >= self._looked + LOOK_PERIOD:
                self._looked = now
                self._watched = {picture for picture, publisher in self._pictures.items()
                                 if publisher.get_subscription_count() > 0}
            return self._watched

    def show(self, picture: str, rgb: np.ndarray, header: Header) -> None:
        """Publish a picture (H, W, 3) uint8 RGB, if its topic is still there."""
        message = from_rgb(rgb, header)
        with self._lock:
            publisher = self._pictures.get(picture)
        # Not under the lock: a slow reliable viewer can hold a publisher up, and the thread that
        # classifies asks for the lock with every frame.
        if publisher is not None:
            with suppress(rclpy_implementation.InvalidHandle):  # its topic went in this moment
                publisher.publish(message)

    def destroy(self) -> None:
        """Remove the publishers."""
        with self._lock:
            for publisher in [self._answers, *self._pictures.values()]:
                self._node.destroy_publisher(publisher)
            self._pictures, self._layers = {}, {}


def image_topic(node: Node, name: str, topic: str, compressed: bool) -> str:
    """
    Return the full name of a camera's image topic, remapped: `topic` below its `name`.

    Raises ValueError where ROS has no such names.
    """
    parts = [name, topic, 'compressed' if compressed else '']
    try:
        return resolved(node, '/'.join(filter(None, parts)))
    except ValueError as error:
        raise ValueError(f"image_topic is '{topic}', of camera '{name}': {error}; expected a "
                         'name such as image or camera/image_raw') from error


def resolved(node: Node, topic: str) -> str:
    """Return the full name of a topic, remapped; ValueError where ROS has no such names."""
    try:
        return node.resolve_topic_name(topic)
    except RuntimeError as error:
        raise ValueError(str(error).partition(', at /')[0].removeprefix(
            'failed to resolve name: ')) from error
