"""Where there are images, for a camera on whose topic there are none."""

from __future__ import annotations

from cnn_perception.ros.camera import Camera
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

__all__ = ['elsewhere']

TRANSPORTS = {'raw': 'sensor_msgs/msg/Image', 'compressed': 'sensor_msgs/msg/CompressedImage'}
SUFFIX = '/compressed'
# Topics that are named at most.
MOST = 3


def elsewhere(node: Node, camera: Camera) -> str:
    """Say on which topics images are published, and what to set so that the node takes those."""
    own = 'compressed' if camera.message_type is CompressedImage else 'raw'
    found = {transport: topics(node, transport) for transport in TRANSPORTS}
    if found[own]:
        remedy = (f'remap {camera.topic}' if camera.name else
                  'set image_topic (with launch files image:=...) or remap')
        return f'but there are images on {", ".join(found[own])}: {remedy}'
    other = next(name for name in TRANSPORTS if name != own)
    if found[other]:
        return (f'but there are {other} images on {", ".join(found[other])}: set image_transport '
                f'to {other}, and the topic where it is another one')
    return 'nor any other images: is the camera running, and in the same ROS_DOMAIN_ID?'


def topics(node: Node, transport: str) -> list[str]:
    """Return the names of a few image topics, as `image_topic` has them, pictures of ours last."""
    own = f'{node.get_fully_qualified_name()}/'
    found = [base(name, transport) for name, types in node.get_topic_names_and_types()
             if TRANSPORTS[transport] in types and not name.startswith(own)
             and node.count_publishers(name)]
    return sorted(found, key=lambda name: ('/debug/' in name, name))[:MOST]


def base(name: str, transport: str) -> str:
    """Return a topic without what the transport appends."""
    return name.removesuffix(SUFFIX) if transport == 'compressed' else name
