"""
A camera that does nothing else: the same picture at a steady rate on one or more topics.

For each line {"topics": [...], "rate": Hz, "seconds": s, "size": "640x480"} on standard input it
publishes for so long, from half a second after somebody has subscribed to all of them, and prints
how many frames were sent as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import sys
import time

from cnn_perception.photographs import photograph
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.memory import keep_image_blocks
import cv2
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def send(node: Node, topics: Sequence[str], rate: float, seconds: float, size: str
         ) -> dict[str, float]:
    """Publish for so long; returns what was sent."""
    width, height = (int(side) for side in size.split('x'))
    message = from_rgb(cv2.resize(photograph('cat'), (width, height)), Header())
    publishers = [node.create_publisher(Image, topic, QOS) for topic in topics]
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.05)
    time.sleep(0.5)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds and node.context.ok():
        for index, publisher in enumerate(publishers):
            message.header.stamp = node.get_clock().now().to_msg()
            message.header.frame_id = str(index)
            publisher.publish(message)
            sent += 1
        time.sleep(max(0.0, began + sent / len(publishers) / rate - time.monotonic()))
    time.sleep(0.3)
    for publisher in publishers:
        node.destroy_publisher(publisher)
    return {'sent': sent, 'seconds': now - began}


def main() -> None:
    """Take orders until standard input ends."""
    keep_image_blocks()
    rclpy.init(args=[])
    node = rclpy.create_node('sender')
    print(json.dumps({'ready': True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(send(node, **json.loads(line))), flush=True)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
