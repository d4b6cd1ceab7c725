"""The node's messages on /diagnostics, and its warnings of trouble with a camera's images."""

from __future__ import annotations

from collections.abc import Callable

from cnn_perception.ros import diagnostics
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.clock_watch import ClockWatch
from cnn_perception.ros.diagnostics import DiagnosticArray, DiagnosticStatus
from cnn_perception.ros.elsewhere import elsewhere
from cnn_perception.ros.running import Loaded, Running
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy

__all__ = ['Reporter']


class Reporter:
    """Reports at a steady pace, whatever the time of a simulation does."""

    def __init__(self, node: Node, loaded: Callable[[], Loaded | None],
                 running: Callable[[], Running | None], state: Callable[[], tuple[str, str]],
                 period: float) -> None:
        """
        Begin to report every `period` seconds.

        loaded, running: None while there is none. state: the node's, in words, and what failed.
        """
        self._node = node
        self._loaded, self._running, self._state = loaded, running, state
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._clock = ClockWatch(node, 'latencies mean nothing')
        self._timer = node.create_timer(
            period, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def set_period(self, seconds: float) -> None:
        """Report so often from now on."""
        self._timer.timer_period_ns = round(1e9 * seconds)
        self._timer.reset()

    def report(self) -> None:
        """Report on the node and its cameras; kernels are shown as often to those who look."""
        loaded, running = self._loaded(), self._running()
        if loaded is not None:
            loaded.show_kernels()
        name = self._node.get_fully_qualified_name()
        state, failure = self._state()
        statuses = [diagnostics.node_status(
            name, failure, loaded.classifier if loaded is not None else None, state)]
        if loaded is not None and running is not None and running.receiver.subscribed():
            statuses += [self._on_camera(name, camera, running.receiver.seconds_busy())
                         for camera in loaded.cameras.values()]
        self._publisher.publish(
            diagnostics.array(statuses, self._node.get_clock().now().to_msg()))

    def _on_camera(self, name: str, camera: Camera, busy: float) -> DiagnosticStatus:
        found = self._node.get_publishers_info_by_topic(camera.topic)
        publishers = [one for one in found if one.topic_type == camera.type_name]
        wrong_type = next((one.topic_type for one in found if one not in publishers), '')
        matched = [one for one in publishers if not camera.reliable or (
            one.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT)]
        camera.statistics.alone = len(matched) < 2
        incompatible = camera.reliable and not matched
        if self._clock.stands():
            complaint = ''
        elif not found:
            complaint = camera.transport.unpublished(
                lambda: elsewhere(self._node, camera)) or camera.transport.complaint(0)
        elif wrong_type and not publishers:
            complaint = camera.transport.mistyped(wrong_type, camera.type_name)
        else:
            complaint = camera.transport.complaint(len(publishers), incompatible, busy)
        if complaint:
            self._node.get_logger().warning(f'{camera.topic}: {complaint}')
        return diagnostics.camera_status(
            f'{name}: {self._title(camera)}', camera.statistics, len(publishers), busy, wrong_type,
            camera.transport.longest_pause() * 1e-9)

    def _title(self, camera: Camera) -> str:
        """Name a camera by its topic, and where several take the same one by its own name too."""
        loaded = self._loaded()
        topics = [] if loaded is None else [other.topic for other in loaded.cameras.values()]
        shared = topics.count(camera.topic) > 1
        return f'{camera.topic} ({camera.name})' if shared else camera.topic
