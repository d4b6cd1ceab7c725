"""
What became of the images between two that were taken: replaced by newer ones, or lost.

The publisher numbers its images, and the middleware notes when each arrived. What is missing in
between was replaced in the subscription while nobody took it out, or never arrived at all.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cnn_perception.ros.camera import Camera
from rclpy.subscription import Subscription

__all__ = ['Line', 'NANOSECONDS', 'replaceable']

# Periods that an image of a steady camera does not lie there without a newer one.
BURST = 2
# So much of a camera's last gaps after which its next image may come.
NEARLY = 0.9
NANOSECONDS = 10 ** 9
# Seconds after which it is not known any more what has come meanwhile: the process may have stood
# still, and the middleware then delivers late.
LONGEST_STOP = 0.5


@dataclass
class Line:
    """
    A camera's subscription, and what is known of the image taken last.

    number, publishers, arrival: the publisher's count, how many publishers were matched then, and
    when it arrived, ns. emptied: the end of the last wait, after which nothing was in the
    subscription; free: since when images in it can have replaced each other; ns. waited: it was
    empty when the last image was looked for. stopped: the process stood still during a wait. vain:
    windows in which the camera was waited for and did not come. asked: when its publishers were
    counted last while nothing came, ns. gaps: between its last images, ns.
    """

    camera: Camera
    subscription: Subscription
    number: int | None = None
    publishers: int = 0
    arrival: int = 0
    emptied: int = 0
    free: int = 0
    waited: bool = False
    stopped: bool = False
    vain: int = 0
    asked: int = 0
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=3))

    def looked(self, begun: int, ended: int, limit: float, waited: bool, ready: bool) -> None:
        """
        Note an end of waiting, at which an image was ready or was not; begun, ended: ns.

        limit: seconds for which the wait was meant to last. waited: nothing was there at first, so
        that what woke the thread has replaced nothing.
        """
        longest = LONGEST_STOP * NANOSECONDS
        self.stopped |= (ended - begun > limit * NANOSECONDS + longest
                         or 0 < self.emptied < begun - longest)
        self.waited = waited and not self.stopped
        self.free = ended if self.waited else self.emptied
        # What comes to a process that stood still has replaced each other before it could look.
        if ready or not self.stopped:
            self.emptied, self.stopped = ended, False

    def count_publishers(self, now: int) -> None:
        """Begin to count anew where they changed while nothing came; looked for once a second."""
        if now - max(self.arrival, self.asked) < NANOSECONDS:
            return
        self.asked = now
        if (publishers := self.subscription.get_publisher_count()) != self.publishers:
            self.number, self.publishers = None, publishers

    def missed(self, number: int | None) -> int:
        """Return how many images were published between the one before and that of a number."""
        previous, self.number = self.number, number
        if number is None:
            return 0
        before, self.publishers = self.publishers, self.subscription.get_publisher_count()
        if before > 1 and before != self.publishers:
            self.number = None  # it may be the last image of one that has gone
        # Of several publishers each counts for itself, and whose number this is nobody tells.
        if previous is None or not before == self.publishers == 1:
            return 0
        # One that begins anew begins with 1.
        return max(0, number - previous - 1)

    def due(self, end: int) -> bool:
        """Tell whether its next image should come before a time, ns; True where that is open."""
        return self.arrival + NEARLY * min(self.gaps, default=0.0) <= end


def replaceable(line: Line, arrival: int, missing: int) -> int:
    """
    Return how many of the missing images this one, that arrived so, can have replaced.

    Only as many as were due since images could replace each other: the rest was lost on its way.
    """
    if not missing or arrival <= line.free:
        return 0
    # The usual pace, or that of these very images, where a camera has become faster.
    period = min(line.camera.transport.period(), (arrival - line.arrival) / (missing + 1))
    if period <= 0:
        return missing
    # Others were due since, so that these have come in a burst: of a recording, a wireless link.
    if line.emptied - arrival > BURST * period:
        return missing
    return min(missing, max(0, round((arrival - line.free) / period)))
