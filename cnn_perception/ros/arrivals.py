"""
What became of the images between two that were taken: replaced by newer ones, or lost.

The publisher numbers its images, and the middleware notes when each arrived. What is missing in
between was replaced in the subscription while nobody waited for it, or never arrived at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnn_perception.ros.camera import Camera
from rclpy.subscription import Subscription

__all__ = ['count_missed', 'Line', 'replaceable']


@dataclass
class Line:
    """
    A camera's subscription, and what is known of the image taken last.

    number, arrival: the publisher's count, and when it arrived, ns. missed: how many before it
    were counted as replaced and as lost. begun, ended: the last wait for this camera, busy: the
    end of the one before it; ns. vain: windows in which it was waited for and did not come.
    """

    camera: Camera
    subscription: Subscription
    number: int | None = None
    arrival: int = 0
    missed: tuple[int, int] = (0, 0)
    begun: int = 0
    ended: int = 0
    busy: int = 0
    vain: int = 0


def replaceable(line: Line, arrival: int, missing: int) -> int:
    """
    Return how many of the missing images this one, that arrived so, can have replaced.

    What woke the thread has replaced none, and others only as many as were due since nobody
    waited for this camera any more: the rest was lost on its way.
    """
    if not missing or line.begun < arrival <= line.ended:
        return 0
    # The usual pace, or that of these very images, where a camera has become faster.
    period = min(line.camera.transport.period(), (arrival - line.arrival) / (missing + 1))
    if not arrival or period <= 0:
        return missing
    # Arrived before the last wait began: during the work before it; after its end: since then.
    free = line.busy if arrival <= line.begun else line.ended
    return min(missing, max(0, round((arrival - free) / period)))


def count_missed(camera: Camera, replaced: int, lost: int) -> None:
    """Count images that newer ones replaced, unseen, and those that never arrived."""
    if replaced:
        camera.statistics.count('received', replaced)
        camera.statistics.count('dropped', replaced)
    if lost:
        camera.statistics.count('lost', lost)
