"""
The node that everybody writes: the opponent of the benchmark, with no handicap.

cv_bridge where it is installed (else the same view on the buffer, which costs less), Pillow,
torchvision's transforms, ResNet-18 in eager float32, on a GPU where there is one, all in the
subscription's callback.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image as PillowImage
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
import torch
from torchvision.models import resnet18, ResNet18_Weights
from vision_msgs.msg import Classification, ObjectHypothesis

try:
    from cv_bridge import CvBridge
except ImportError:
    CvBridge = None


class PlainNode(Node):
    """Classifies in the callback."""

    def __init__(self) -> None:
        """Build the network, subscribe and publish."""
        super().__init__('classifier')
        self.bridge = CvBridge() if CvBridge is not None else None
        self.device = 'cuda' if torch.cuda.is_available() else 'cpu'
        self.network = resnet18(weights=None).eval().to(self.device)
        self.transform = ResNet18_Weights.DEFAULT.transforms()
        self.names = ResNet18_Weights.DEFAULT.meta['categories']
        self.publisher = self.create_publisher(Classification, '~/classification', 10)
        self.subscription = self.create_subscription(
            Image, 'image', self.callback, qos_profile_sensor_data)
        self.get_logger().info('ready in')

    def callback(self, message: Image) -> None:
        """Convert, transform, run, publish the five best."""
        if self.bridge is not None:
            array = self.bridge.imgmsg_to_cv2(message, 'rgb8')
        else:
            array = np.frombuffer(message.data, np.uint8).reshape(
                message.height, message.width, 3)
        batch = self.transform(PillowImage.fromarray(array)).unsqueeze(0)  # (1, 3, 224, 224)
        with torch.no_grad():
            scores = self.network(batch.to(self.device)).softmax(dim=1)[0]
        values, indices = scores.topk(5)
        self.publisher.publish(Classification(header=message.header, results=[
            ObjectHypothesis(class_id=self.names[int(index)], score=float(value))
            for value, index in zip(values, indices)]))


def main() -> None:
    """Run the node."""
    rclpy.init(args=sys.argv)
    rclpy.spin(PlainNode())


if __name__ == '__main__':
    main()
