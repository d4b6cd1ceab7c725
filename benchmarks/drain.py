"""Receives images and does nothing with them, so that a sender has somebody to send to."""

from __future__ import annotations

import contextlib
import sys

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


def main() -> None:
    """Subscribe, serialised, to the topics given, else to `image`."""
    rclpy.init(args=[])
    node = rclpy.create_node('drain')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    subscriptions = [node.create_subscription(Image, topic, lambda data: None, qos, raw=True)
                     for topic in sys.argv[1:] or ['image']]
    print(f'draining {len(subscriptions)} topic(s)', flush=True)
    with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        rclpy.spin(node)


if __name__ == '__main__':
    main()
