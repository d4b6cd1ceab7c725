"""The messages of the environment are the released ones, to the bit."""

from pathlib import Path

import pytest
import rclpy
from vision_msgs import msg
import yaml

HASHES = yaml.safe_load(
    (Path(__file__).parents[1] / 'data' / 'vision_msgs_type_hashes.yaml').read_text())


@pytest.mark.parametrize('name', HASHES)
def test_type_hash_equals_that_of_the_release(namespace, name):
    node = rclpy.create_node('hashes', namespace=namespace)
    try:
        message_type = getattr(msg, name.rpartition('/')[2])
        node.create_publisher(message_type, 'topic', 1)
        [endpoint] = node.get_publishers_info_by_topic(f'{namespace}/topic')
        if not hasattr(endpoint, 'topic_type_hash'):
            pytest.skip('this ROS 2 has no type hashes (Humble)')
        assert str(endpoint.topic_type_hash) == HASHES[name]
    finally:
        node.destroy_node()
