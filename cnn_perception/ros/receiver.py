"""
The newest image of each camera, taken from the middleware by the thread that classifies it.

A subscription that keeps its last message is already the slot in which a newer image replaces an
older one. No executor touches it: the classifying thread itself waits for its subscriptions, so
that an image is handed to no other thread, and one that is replaced unseen costs nothing more
than its arrival. How many were replaced, and how many never came, the publisher's own count tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
import time
from typing import Any

from cnn_perception.ros.arrivals import Line, NANOSECONDS, replaceable
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.newest import Letter
from cnn_perception.ros.raw_image import stamp_of
from rclpy.callback_groups import CallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

__all__ = ['Receiver']

# Nothing should depend on it: `close` and the end of the context both wake the thread.
LONGEST_WAIT = 1.0
# Windows after which a camera is not waited for until it sends again.
MOST_IN_VAIN = 3


class Aside(CallbackGroup):
    """What belongs to it is left alone by every executor."""

    def can_execute(self, entity) -> bool:
        """Tell executors not to wait for it."""
        return False

    def beginning_execution(self, entity) -> bool:
        """Tell executors not to run it."""
        return False

    def ending_execution(self, entity) -> None:
        """Nothing has begun."""


class Receiver:
    """
    Waits for images; `take` is for one thread, the rest may be called from any.

    window: seconds that the first image waits for those of the other cameras.
    """

    def __init__(self, node: Node, cameras: Mapping[str, Camera],
                 window: Callable[[], float]) -> None:
        """Begin without subscriptions."""
        self._node = node
        self._cameras = cameras
        self._window = window
        self._group = Aside()
        self._lines: tuple[Line, ...] = ()
        self._depth = 1
        self._closed = False
        self._taken: float | None = None
        self._wake = node.create_guard_condition(lambda: None, self._group)
        node.context.on_shutdown(self.wake)

    def subscribe(self, qos: QoSProfile) -> None:
        """Subscribe to all cameras."""
        self._depth = qos.depth
        for camera in self._cameras.values():
            camera.reliable = qos.reliability == ReliabilityPolicy.RELIABLE
            camera.transport.resume()
        # Serialised, so that the pixels are never copied into a message.
        self._lines = tuple(Line(camera, self._node.create_subscription(
            camera.message_type, camera.topic, lambda message: None, qos,
            callback_group=self._group, raw=True)) for camera in self._cameras.values())
        self.wake()

    def unsubscribe(self) -> None:
        """Let go of all subscriptions; what waits in them is dropped."""
        lines, self._lines = self._lines, ()
        for line in lines:
            self._node.destroy_subscription(line.subscription)
        self.wake()

    def subscribed(self) -> bool:
        """Tell whether images are waited for."""
        return bool(self._lines)

    def wake(self) -> None:
        """Have the waiting thread look again at what it waits for."""
        with suppress(rclpy_implementation.InvalidHandle):  # nobody waits after `destroy`
            self._wake.trigger()

    def close(self) -> None:
        """Have `take` return for the last time."""
        self._closed = True
        self.unsubscribe()

    def destroy(self) -> None:
        """Remove what is left, once no thread waits any more."""
        self._node.destroy_guard_condition(self._wake)

    def take(self) -> list[Letter]:
        """Wait for images and take the newest of each camera; an empty list says: closed."""
        self._taken = None
        while not self._closed and self._node.context.ok():
            lines = self._lines
            ready = self._wait(lines, LONGEST_WAIT)
            if ready and len(lines) > 1 and (window := self._window()) > 0:
                ready = self._wait_for_others(lines, ready, window)
            if letters := [letter for line in ready if (letter := self._newest(line))]:
                self._taken = time.monotonic()
                return letters
        return []

    def seconds_busy(self) -> float:
        """Return for how long what was taken last has been worked on; 0 while waiting."""
        taken = self._taken
        return 0.0 if taken is None else time.monotonic() - taken

    def _wait_for_others(self, lines: tuple[Line, ...], ready: list[Line], window: float
                         ) -> list[Line]:
        end = time.monotonic() + window
        # One that is slower, or does not come any more, must not slow down the others.
        latest = time.time_ns() + int(window * NANOSECONDS)
        missing = [line for line in lines if line not in ready and line.vain < MOST_IN_VAIN
                   and line.due(latest)]
        # What is not subscribed any more gives nothing, and no wait for it either.
        while (missing and self._lines is lines and not self._closed
               and (left := end - time.monotonic()) > 0):
            ready = ready + self._wait(missing, left)
            missing = [line for line in missing if line not in ready]
        for line in missing:
            line.vain += 1
        # Of the others, too, what has come meanwhile.
        others = [line for line in lines if line not in ready]
        return ready + (self._wait(others, 0.0) if others else [])

    def _wait(self, lines: Iterable[Line], seconds: float) -> list[Line]:
        """Return the lines that have an image, after waiting so long at most."""
        lines = tuple(lines)
        try:
            with ExitStack() as held:
                # Held, so that another thread's `unsubscribe` cannot free what is waited for.
                for entity in (self._node.context, self._wake,
                               *(line.subscription for line in lines)):
                    held.enter_context(entity.handle)
                wait_set = rclpy_implementation.WaitSet(
                    len(lines), 1, 0, 0, 0, 0, self._node.context.handle)
                began = time.time_ns()
                ready, woken = self._look(wait_set, lines, 0.0)
                # Whether anything was there before tells what can have replaced what.
                if waited := not ready and not woken and seconds > 0:
                    ready, _ = self._look(wait_set, lines, seconds)
                ended = time.time_ns()
                for line in lines:
                    line.looked(began, ended, seconds, waited, line in ready)
                    if line not in ready:
                        line.count_publishers(ended)
                return ready
        except rclpy_implementation.InvalidHandle:
            return []  # unsubscribed or ended in this moment; the caller looks again
        except rclpy_implementation.RCLError:
            if self._node.context.ok():
                raise
            return []

    def _look(self, wait_set: Any, lines: tuple[Line, ...], seconds: float
              ) -> tuple[list[Line], bool]:
        """Return the lines that have an image by then, and whether `wake` was called."""
        wait_set.clear_entities()
        wait_set.add_guard_condition(self._wake.handle)
        for line in lines:
            wait_set.add_subscription(line.subscription.handle)
        wait_set.wait(int(seconds * NANOSECONDS))
        ready = wait_set.get_ready_entities('subscription')
        return ([line for line in lines if line.subscription.handle.pointer in ready],
                bool(wait_set.get_ready_entities('guard_condition')))

    def _newest(self, line: Line) -> Letter | None:
        newest = None
        try:
            with line.subscription.handle:
                # A longer queue was asked for, perhaps by a publisher's habits; it is emptied.
                for _ in range(self._depth):
                    taken = line.subscription.handle.take_message(
                        line.subscription.msg_type, True)
                    if taken is None:
                        break
                    if newest is not None:
                        line.camera.statistics.count('dropped')
                    newest = taken
                    self._account(line, *taken)
        except rclpy_implementation.InvalidHandle:
            return None
        line.vain = 0 if newest is not None else line.vain
        return newest and Letter(line.camera.name, newest[0], time.monotonic_ns())

    def _account(self, line: Line, data: bytes, info: Mapping[str, int | None]) -> None:
        """Count an image, those that it replaced, and those that the transport lost."""
        statistics, transport = line.camera.statistics, line.camera.transport
        arrival = info.get('received_timestamp') or time.time_ns()
        number = info.get('publication_sequence_number')
        missing = line.missed(number)
        replaced = replaceable(line, arrival, missing)
        if line.arrival:
            line.gaps.append((arrival - line.arrival) / (1 + missing))
        line.arrival = arrival
        statistics.count('received', 1 + replaced)
        if missing:
            statistics.count('dropped', replaced)
            statistics.count('lost', missing - replaced)
        statistics.numbered = number is not None
        statistics.alone = line.publishers < 2
        published, waited = info.get('source_timestamp') or 0, False
        if number is None:
            # For the first of several that came at once.
            waited, line.waited = line.waited, False
            # Of others such a middleware may tell when they were taken instead of when they came.
            published = published if waited else arrival
        transport.arrived(stamp_of(data), arrival, published, missing, missing - replaced, waited,
                          self._node.get_clock().ros_time_is_active)
