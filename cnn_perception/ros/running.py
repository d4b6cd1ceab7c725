"""What the classifier node holds: between configure and cleanup, and while it is active."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

from cnn_perception.classifier import Classifier
from cnn_perception.ros import messages
from cnn_perception.ros.camera import Camera, image_topic
from cnn_perception.ros.camera_names import check_camera_names
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import DebugSettings, read_settings
from cnn_perception.ros.image_messages import cv_bridge_status, from_rgb
from cnn_perception.ros.log import Throttled
from cnn_perception.ros.pictures import Pictures
from cnn_perception.ros.pipeline import Pipeline
from cnn_perception.ros.prepared_taps import PreparedTaps
from cnn_perception.ros.receiver import Receiver
from cnn_perception.ros.worker import Worker
from cnn_perception.sources import open_source
import cv2
import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionInfo

__all__ = ['Loaded', 'Running']

# More pictures change int8 ranges little and take their time.
MOST_CALIBRATION = 64
# Of the thread that draws. With four pictures watched on two cores, answers took 40 instead of 48
# ms, 50 to 70 instead of 90 to 100 beside two busy processes; a sixth of the pictures is lost.
NICE = 10
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Loaded:
    """A network that is loaded and warm, its cameras and its latched topics."""

    def __init__(self, node: Node, settings: Mapping[str, Any], version: int) -> None:
        """Load; raises ValueError with the cause."""
        self._node = node
        self._publishers: list[Publisher] = []
        self.cameras: dict[str, Camera] = {}
        # What is quick to refuse, before the network is loaded.
        names = camera_names(settings['cameras'])
        compressed = settings['image_transport'] == 'compressed'
        images = {name: image_topic(node, name, settings['image_topic'], compressed)
                  for name in names}
        read_settings(settings)
        self.classifier = Classifier(
            settings['architecture'], settings['weights'], settings['device'],
            label_file=settings['labels'], backend=settings['backend'],
            precision=settings['precision'], calibration=calibration(settings['calibration']),
            threads=settings['num_threads'], cache_dir=settings['cache_dir'],
            **preprocessing_overrides(settings))
        # Engines compile for each size of a batch; none of that may happen on a robot's way.
        for count in range(1, len(names) + 1):
            if not node.context.ok():
                raise RuntimeError('told to end while the network was loaded')
            self.classifier.warm_up(count)
        self.layers = DebugLayers(self.classifier)
        if self.layers.obstacle:
            node.get_logger().warning(f'no layer can be shown: {self.layers.obstacle}')
        # Of the network, not of the threads: what is compiled stays while the node is inactive.
        self.prepared = PreparedTaps(
            self.classifier, Throttled(lambda text: node.get_logger().warning(text)))
        if not compressed:
            # It is found out in another process, which no image must have to wait for.
            works, which = cv_bridge_status()
            node.get_logger().debug(f'images are converted by {which}' if works else
                                    f'images are converted without cv_bridge: {which}')
        self.debug = read_settings(settings, self.classifier.labels)
        self.layers.check(self.debug)
        topics = self.layers.topics(self.debug)
        self._kernels = self.layers.kernels()
        # Publishers last: what can fail before them then leaves none behind.
        for name in names:
            self.cameras[name] = Camera(node, name, images[name], compressed)
            self.cameras[name].check_layers(topics)
            self.cameras[name].set_layers(topics)
        self._labels = self._latched(LabelInfo, '~/label_info')
        self._vision = self._latched(VisionInfo, '~/vision_info')
        self._filters = (None if self._kernels is None else
                         self._latched(Image, '~/debug/filters'))
        if (count := len(self.classifier.labels)) > messages.MOST_NAMES:
            node.get_logger().warning(
                f'~/label_info has the first {messages.MOST_NAMES} of {count} class names: '
                'vision_msgs numbers them with 16 bits')
        self.publish_labels(settings['score_threshold'])
        self._vision.publish(messages.vision_info(
            self.classifier.network, self._labels.topic_name, version, self._header()))
        self._publish_kernels()

    def _latched(self, message_type: type, name: str) -> Publisher:
        publisher = self._node.create_publisher(message_type, name, LATCHED)
        self._publishers.append(publisher)
        return publisher

    def _header(self) -> Header:
        return Header(stamp=self._node.get_clock().now().to_msg())

    def publish_labels(self, threshold: float) -> None:
        """Publish the class names, with the score below which classes are left out."""
        self._labels.publish(messages.label_info(
            self.classifier.labels, threshold, self._header()))

    def show_kernels(self) -> None:
        """Show the kernels once more to those who look: most do not ask for latched ones."""
        if self._filters is not None and self._filters.get_subscription_count() > 0:
            self._publish_kernels()

    def _publish_kernels(self) -> None:
        if self._filters is not None:
            self._filters.publish(from_rgb(self._kernels, self._header()))

    def change_debug(self, debug: DebugSettings) -> None:
        """Show something else; ValueError where a layer is not one of the network's."""
        self.layers.check(debug)
        topics = self.layers.topics(debug)
        for camera in self.cameras.values():
            camera.check_layers(topics)
        for camera in self.cameras.values():
            camera.set_layers(topics)
        self.debug = debug

    def destroy(self) -> None:
        """Remove the publishers."""
        for camera in self.cameras.values():
            camera.destroy()
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)


class Running:
    """The threads of an active node: one answers, one draws, one prepares what is to be drawn."""

    def __init__(self, node: Node, loaded: Loaded,
                 settings: Callable[[], Mapping[str, Any]]) -> None:
        """Start them; `receiver` is not subscribed yet. settings returns the current ones."""
        self._node = node
        logger = node.get_logger()
        # rclpy remembers the severity of each place that logs, so that each needs its own line.
        warn = Throttled(lambda text: logger.warning(text))
        self._error = Throttled(lambda text: logger.error(text))
        self.receiver = Receiver(node, loaded.cameras,
                                 lambda: settings()['batch_window_ms'] / 1000.0)
        self.pictures = Pictures(loaded.layers, loaded.prepared, lambda: loaded.debug, warn)
        self._pipeline = Pipeline(loaded.classifier, loaded.cameras, self.pictures,
                                  settings, node.get_clock(), warn, self._error)
        # OpenCV's threads are made for whoever needs them first, and as nice as that.
        cv2.cvtColor(np.zeros((480, 640, 3), np.uint8), cv2.COLOR_BGR2RGB)
        self._workers = [
            Worker('classifying', self.receiver, self._pipeline.process,
                   partial(self._report, 'frame')),
            Worker('drawing', self.pictures.mailbox, self.pictures.process,
                   partial(self._report, 'picture'), NICE),
            Worker('preparing', self.pictures.preparing_mailbox, self.pictures.prepare,
                   partial(self._report, 'layer'))]
        for worker in self._workers:
            worker.start()

    def stop(self) -> bool:
        """Let the current batch and picture finish; False where one does not."""
        left = [worker for worker in self._workers if not worker.stop()]
        for worker in left:
            self._node.get_logger().error(
                f'{worker.name} did not finish within 10 s; it is left behind')
        if left:
            self._pipeline.close()
        self.receiver.destroy()
        return not left

    def ended(self) -> bool:
        """Tell whether all threads have ended."""
        return all(worker.ended() for worker in self._workers)

    def _report(self, what: str, problem: str) -> None:
        # A process that is ending has nobody left to publish to.
        if self._node.context.ok():
            self._error(f'a {what} was lost: {problem}')


def camera_names(cameras: tuple[str, ...]) -> list[str]:
    """Check the names of the cameras; [''] is one camera without a name."""
    names = list(cameras) or ['']
    if names == ['']:
        return names
    check_camera_names(names)
    return names


def calibration(folder: str) -> list[np.ndarray]:
    """Read pictures for calibration; ValueError where the folder has none."""
    if not folder:
        return []
    try:
        with closing(open_source(folder)) as source:
            return [picture.rgb for picture in islice(source.pictures(), MOST_CALIBRATION)]
    except ValueError as error:
        raise ValueError(f'calibration: {error}') from error


def preprocessing_overrides(settings: Mapping[str, Any]) -> dict[str, tuple]:
    """Turn the parameters' zeros, which YAML can write, into the empty values that they mean."""
    size, mean, std = (tuple(settings[name]) for name in ('input_size', 'mean', 'std'))
    return {'input_size': size if any(size) else (),
            'mean': mean if any(mean) or any(std) else (), 'std': std if any(std) else ()}
