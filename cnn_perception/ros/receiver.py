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

from cnn_perception.ros.arrivals import count_missed, Line, replaceable
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
NANOSECONDS = 10 ** 9


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
        # One that does not come any more must not slow down those that do.
        missing = [line for line in lines if line not in ready and line.vain < MOST_IN_VAIN]
        while missing and not self._closed and (left := end - time.monotonic()) > 0:
            ready = ready + self._wait(missing, left)
            missing = [line for line in missing if line not in ready]
        for line in missing:
            line.vain += 1
        # Of the others, too, what has come meanwhile.
        others = [line for line in lines if line not in ready]
        return ready + (self._wait(others, 0.0) if others else [])

    def _wait(self, lines: Iterable[Line], seconds: float) -> list[Line]:
        """Return the lines that have an image, after waiting so long at most."""
        try:
            with ExitStack() as held:
                # Held, so that another thread's `unsubscribe` cannot free what is waited for.
                held.enter_context(self._node.context.handle)
                held.enter_context(self._wake.handle)
                wait_set = rclpy_implementation.WaitSet(
                    len(self._cameras), 1, 0, 0, 0, 0, self._node.context.handle)
                wait_set.clear_entities()
                wait_set.add_guard_condition(self._wake.handle)
                for line in lines:
                    held.enter_context(line.subscription.handle)
                    wait_set.add_subscription(line.subscription.handle)
                begun = time.time_ns()
                wait_set.wait(int(seconds * NANOSECONDS))
                ended = time.time_ns()
                if ended - begun > (seconds + LONGEST_WAIT) * NANOSECONDS:
                    begun = ended  # the process was stopped: nobody waited
                for line in lines:
                    line.busy, line.begun, line.ended = line.ended, begun, ended
                ready = wait_set.get_ready_entities('subscription')
                return [line for line in lines if line.subscription.handle.pointer in ready]
        except rclpy_implementation.InvalidHandle:
            return []  # unsubscribed or ended in this moment; the caller looks again
        except rclpy_implementation.RCLError:
            if self._node.context.ok():
                raise
            return []

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
        camera = line.camera
        number, previous = info.get('publication_sequence_number'), line.number
        line.number = number
        missing = 0
        if number is not None and previous is not None:
            if number <= previous:
                # Another publisher's, and so may have been the one before: nothing can be said.
                camera.publishers = max(2, camera.publishers)
                count_missed(camera, *(-count for count in line.missed))
                camera.transport.disregard()
            elif camera.publishers <= 1:
                missing = number - previous - 1
        arrival = info.get('received_timestamp') or 0
        replaced = replaceable(line, arrival, missing)
        line.arrival = arrival
        camera.statistics.count('received')
        line.missed = (replaced, missing - replaced)
        count_missed(camera, *line.missed)
        clock = self._node.get_clock()
        if clock.ros_time_is_active or not arrival:
            arrival = clock.now().nanoseconds
        camera.transport.arrived(stamp_of(data), arrival, missing, missing - replaced)
