"""From frames to answers in one process: what one camera's frame may cost the others."""

from cnn_perception.classifier import Classifier
from cnn_perception.photographs import photograph
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import read_settings
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.newest import Letter
from cnn_perception.ros.parameters import CLASSIFIER
from cnn_perception.ros.pictures import Pictures
from cnn_perception.ros.pipeline import Pipeline
import numpy as np
import pytest
import rclpy
from rclpy.serialization import serialize_message
from std_msgs.msg import Header


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('pipeline', context=context)
    yield node
    node.destroy_node()
    context.shutdown()


@pytest.fixture
def run(node):
    """Return (classify, cameras, what was logged): classify takes {camera: picture}."""
    classifier = Classifier('resnet18', 'none', 'cpu', backend='torch')
    cameras = {name: Camera(node, name, f'{name}/image', False) for name in ('front', 'line')}
    settings = {row.name: row.default for row in CLASSIFIER}
    logged = []
    pictures = Pictures(DebugLayers(classifier), lambda: read_settings(settings), logged.append)
    pipeline = Pipeline(classifier, cameras, pictures, lambda: settings, node.get_clock(),
                        lambda text, kind='': logged.append(text), logged.append)

    def classify(frames):
        pipeline.process([Letter(name, serialize_message(from_rgb(rgb, Header())), 0)
                          for name, rgb in frames.items()])
        return {name: camera.statistics.counts for name, camera in cameras.items()}
    return classifier, classify, logged


def test_a_picture_too_long_to_prepare_is_rejected_alone(run):
    _, classify, logged = run
    line = np.zeros((1, 16000, 3), np.uint8)
    counts = classify({'front': photograph('cat'), 'line': line})
    assert counts['front']['classified'] == 1
    assert counts['line']['rejected'] == 1
    [text] = logged
    assert '16000 x 1' in text
    assert 'crop it' in text


def test_a_batch_that_fails_is_classified_frame_by_frame(run, monkeypatch):
    classifier, classify, logged = run
    original = classifier.predict

    def predict(frames, taps=()):
        if len(frames) > 1:
            raise RuntimeError('out of memory')
        if frames[0].max() == 0:
            raise RuntimeError('still out of memory')
        return original(frames, taps)
    monkeypatch.setattr(classifier, 'predict', predict)
    counts = classify({'front': photograph('cat'), 'line': np.zeros((9, 9, 3), np.uint8)})
    assert counts['front']['classified'] == 1
    assert counts['front']['failed'] == 0
    assert counts['line']['failed'] == 1
    [text] = logged
    assert 'line/image' in text
    assert 'still out of memory' in text
