"""A camera that does nothing else: the same picture at a steady rate on one or more topics."""

from __future__ import annotations

import argparse
import json
import sys
import time

from cnn_perception.photographs import photograph
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.memory import keep_image_blocks
import cv2
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def main() -> None:
    """Publish for so long, then print how many frames were sent as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--topics', nargs='+', default=['image'])
    parser.add_argument('--rate', type=float, default=30.0)
    parser.add_argument('--seconds', type=float, default=5.0)
    parser.add_argument('--size', default='640x480')
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split('x'))
    keep_image_blocks()
    rclpy.init(args=[])
    node = rclpy.create_node('sender')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publishers = [node.create_publisher(Image, topic, qos) for topic in options.topics]
    message = from_rgb(cv2.resize(photograph('cat'), (width, height)), Header())
    while not all(publisher.get_subscription_count() for publisher in publishers):
        time.sleep(0.05)
    time.sleep(0.5)
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < began + options.seconds:
        for index, publisher in enumerate(publishers):
            message.header.stamp = node.get_clock().now().to_msg()
            message.header.frame_id = str(index)
            publisher.publish(message)
            sent += 1
        time.sleep(max(0.0, began + sent / len(publishers) / options.rate - time.monotonic()))
    print(json.dumps({'sent': sent, 'seconds': now - began}), flush=True)
    time.sleep(0.5)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == '__main__':
    sys.exit(main())
