"""
Receives images and does nothing with them, so that a sender has somebody to send to.

For each line {"topics": [...]} on standard input it subscribes, serialised, to those topics alone,
to none where the list is empty, and prints how many they are as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading

import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def main() -> None:
    """Take orders until standard input ends."""
    rclpy.init(args=[])
    node = rclpy.create_node('drain')
    receiving = threading.Thread(target=receive, args=(node,))
    receiving.start()
    print(json.dumps({'ready': True}), flush=True)
    subscriptions = []
    for line in sys.stdin:
        for subscription in subscriptions:
            node.destroy_subscription(subscription)
        subscriptions = [node.create_subscription(Image, topic, lambda data: None, QOS, raw=True)
                         for topic in json.loads(line)['topics']]
        print(json.dumps({'topics': len(subscriptions)}), flush=True)
    rclpy.try_shutdown()
    receiving.join()


def receive(node: rclpy.node.Node) -> None:
    """Receive until the end."""
    with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        rclpy.spin(node)


if __name__ == '__main__':
    main()
