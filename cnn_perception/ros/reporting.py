"""The node's messages on /diagnostics, and its warnings of trouble with a camera's images."""

from __future__ import annotations

from collections.abc import Callable

from cnn_perception.ros import diagnostics
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.diagnostics import DiagnosticArray, DiagnosticStatus
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
        self._timer = node.create_timer(
            period, self.report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def set_period(self, seconds: float) -> None:
        """Report so often from now on."""
        self._timer.timer_period_ns = round(1e9 * seconds)
        self._timer.reset()

    def report(self) -> None:
        """Report on the node and its cameras."""
        loaded, running = self._loaded(), self._running()
        if loaded is not None:
            loaded.welcome()
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
        incompatible = camera.reliable and all(
            publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
            for publisher in publishers)
        camera.publishers = len(publishers)
        if wrong_type and not publishers:
            complaint = camera.transport.mistyped(wrong_type, camera.type_name)
        else:
            complaint = camera.transport.complaint(len(publishers), incompatible, busy)
        if complaint:
            self._node.get_logger().warning(f'{camera.topic}: {complaint}')
        return diagnostics.camera_status(
            f'{name}: {camera.topic}', camera.statistics, len(publishers), busy, wrong_type,
            camera.transport.period() * 1e-9)
