"""From frames to answers in one process: what one camera's frame may cost the others."""

import threading
import time
from types import SimpleNamespace

from cnn_perception.classifier import Classifier
from cnn_perception.photographs import photograph
from cnn_perception.ros.camera import Camera
from cnn_perception.ros.debug_layers import DebugLayers
from cnn_perception.ros.debug_settings import read_settings
from cnn_perception.ros.image_messages import from_rgb, to_compressed
from cnn_perception.ros.log import Throttled
from cnn_perception.ros.newest import Letter
from cnn_perception.ros.parameters import CLASSIFIER
from cnn_perception.ros.pictures import Pictures
from cnn_perception.ros.pipeline import Pipeline
from cnn_perception.ros.prepared_taps import PreparedTaps
from cnn_perception.ros.wishes import Plan, Wish
import numpy as np
import pytest
import rclpy
from rclpy.publisher import Publisher
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage
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
def parts(node):
    """Return (classifier, cameras, pipeline, what was logged)."""
    classifier = Classifier('resnet18', 'none', 'cpu', backend='torch')
    cameras = {name: Camera(node, name, f'{name}/image', False)
               for name in ('front', 'line', 'eye1', 'eye2')}
    settings = {row.name: row.default for row in CLASSIFIER}
    logged = []
    pictures = Pictures(DebugLayers(classifier), PreparedTaps(classifier, logged.append),
                        lambda: read_settings(settings), logged.append)
    pipeline = Pipeline(classifier, cameras, pictures, lambda: settings, node.get_clock(),
                        Throttled(logged.append), Throttled(logged.append))
    return classifier, cameras, pipeline, logged


@pytest.fixture
def run(parts):
    """Return (classifier, classify, what was logged); classify takes pictures by camera."""
    classifier, cameras, pipeline, logged = parts

    def classify(frames):
        pipeline.process([Letter(name, frame if isinstance(frame, bytes) else
                                 serialize_message(from_rgb(frame, Header())), 0)
                          for name, frame in frames.items()])
        return {name: cameras[name].statistics.counts for name in frames}
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


def test_a_message_that_is_cut_short_is_rejected_alone(run):
    _, classify, logged = run
    counts = classify({'front': photograph('cat'), 'line': b'\x00\x01\x00\x00cut'})
    assert counts['front']['classified'] == 1
    assert counts['line']['rejected'] == 1
    [text] = logged
    assert text.startswith('dropped an image of line/image: 7 bytes are no Image message')


@pytest.mark.parametrize('seconds', [-1, 0, 2 ** 31 - 1])
def test_any_stamp_is_answered(run, seconds):
    _, classify, logged = run
    header = Header()
    header.stamp.sec = seconds
    counts = classify({name: serialize_message(from_rgb(photograph('cat'), header))
                       for name in ('front', 'line')})
    assert [count['classified'] for count in counts.values()] == [1, 1]
    assert not logged


def test_each_camera_has_warnings_of_its_own(run):
    _, classify, logged = run
    classify({'eye1': b'cut', 'eye2': b'cut'})
    first, second = logged
    assert 'eye1/image' in first
    assert 'eye2/image' in second


def test_an_answer_that_is_no_number_fails_with_its_cause(run, monkeypatch):
    classifier, classify, logged = run
    monkeypatch.setattr(classifier.backend, 'forward', lambda batch, taps=(): (
        np.full((len(batch), 1000), np.inf, np.float32), {}))
    counts = classify({'front': photograph('cat')})
    assert (counts['front']['classified'], counts['front']['failed']) == (0, 1)
    [text] = logged
    assert 'gave no numbers in float32: expected finite logits' in text


def test_a_publisher_that_waits_holds_up_no_classification(node, monkeypatch):
    camera = Camera(node, 'front', 'front/image', False)
    asked = []

    def publish(self, message):
        asking = threading.Thread(target=camera.watched, daemon=True)
        asking.start()
        asking.join(10.0)
        asked.append(not asking.is_alive())
    monkeypatch.setattr(Publisher, 'publish', publish)
    camera.show('overlay', photograph('cat'), Header())
    assert asked == [True]


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


def test_layers_are_told_only_of_the_camera_that_is_watched(run, monkeypatch):
    """A tapped network runs picture by picture, which those pay for who look."""
    classifier, classify, _ = run
    layers = classifier.layer_names()[-2:]
    plan = Plan({}, '', (), tuple(layers))
    monkeypatch.setattr(Pictures, 'wish', lambda self, camera: Wish(
        (), frozenset({'cam'}), None, plan if camera.name == 'line' else None))
    monkeypatch.setattr(Pictures, 'taps', lambda self, wishes: tuple(layers))
    posted, batches, original = [], [], classifier.predict
    monkeypatch.setattr(Pictures, 'post', lambda self, drawing: posted.append(drawing))

    def predict(frames, taps=()):
        batches.append((len(frames), taps))
        return original(frames, taps)
    monkeypatch.setattr(classifier, 'predict', predict)
    counts = classify({'front': photograph('cat'), 'line': photograph('coffee')})
    assert batches == [(1, ()), (1, tuple(layers))]
    assert [count['classified'] for count in counts.values()] == [1, 1]
    assert {drawing.camera.name: [*drawing.prediction.activations] for drawing in posted} == {
        'front': [], 'line': layers}


def test_a_frame_that_memory_does_not_suffice_for_fails_alone(run, monkeypatch):
    classifier, classify, _ = run
    original = classifier.predict

    def predict(frames, taps=()):
        if len(frames) > 1 or frames[0].max() == 0:
            raise MemoryError('no memory')
        return original(frames, taps)
    monkeypatch.setattr(classifier, 'predict', predict)
    counts = classify({'front': photograph('cat'), 'line': np.zeros((9, 9, 3), np.uint8)})
    assert (counts['front']['classified'], counts['line']['failed']) == (1, 1)


def letter(stamp, arrival):
    """Make mail of an image; stamp: ns."""
    header = Header()
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 10 ** 9)
    return Letter('front', serialize_message(from_rgb(photograph('cat'), header)), arrival)


def test_latencies_are_seconds_from_where_they_are_said_to_begin(parts, node):
    _, cameras, pipeline, _ = parts
    began, now = time.monotonic(), node.get_clock().now().nanoseconds
    pipeline.process([letter(now - 5 * 10 ** 9, time.monotonic_ns() - 2 * 10 ** 9)])
    took = time.monotonic() - began
    statistics = cameras['front'].statistics
    assert 5.0 <= statistics.latencies[0] <= 5.0 + took
    assert 2.0 <= statistics.in_node[0] <= 2.0 + took
    assert 0.0 < statistics.inference[0] <= took
    # What carries no stamp has no latency.
    pipeline.process([letter(0, time.monotonic_ns())])
    assert (len(statistics.latencies), len(statistics.in_node)) == (1, 2)
    # Nor has anything before a simulation has sent its time.
    pipeline._clock = SimpleNamespace(now=lambda: SimpleNamespace(nanoseconds=0))
    pipeline.process([letter(now, time.monotonic_ns())])
    assert (len(statistics.latencies), len(statistics.in_node)) == (1, 3)


def test_no_answer_leaves_after_the_node_has_gone_on(parts, monkeypatch):
    classifier, cameras, pipeline, _ = parts
    original = classifier.predict

    def predict(frames, taps=()):
        pipeline.close()
        cameras['front'].destroy()
        return original(frames, taps)
    monkeypatch.setattr(classifier, 'predict', predict)
    pipeline.process([letter(1, 0)])
    assert cameras['front'].statistics.counts['classified'] == 0


def test_trouble_is_kept_for_the_diagnostics_and_logged_once_whatever_its_numbers_are(
        parts, monkeypatch):
    classifier, cameras, pipeline, logged = parts
    statistics = cameras['front'].statistics
    pipeline.process([Letter('front', b'cut', 0)])
    assert statistics.snapshot()['last problem'].startswith('3 bytes are no Image message')
    pipeline.process([Letter('front', b'cut again', 0)])
    assert len(logged) == 1

    def predict(frames, taps=()):
        raise RuntimeError(f'out of memory at {statistics.counts["failed"]}')
    monkeypatch.setattr(classifier, 'predict', predict)
    for _ in range(2):
        pipeline.process([letter(1, 0)])
    assert statistics.snapshot()['last problem'].startswith('out of memory at 1')
    assert len(logged) == 2


def test_bytes_that_are_no_picture_are_one_kind_of_trouble(parts, node):
    _, cameras, pipeline, logged = parts
    cameras['front'] = Camera(node, 'front', 'front/image', True)
    generator = np.random.default_rng(0)
    for count in range(30):
        message = CompressedImage(format='h264', data=generator.bytes(200))
        pipeline.process([Letter('front', serialize_message(message), 0)])
        assert cameras['front'].statistics.counts['rejected'] == count + 1
    assert len(logged) == 1


def test_answers_to_compressed_images_name_classes_as_asked(parts, node, monkeypatch):
    _, cameras, pipeline, _ = parts
    cameras['front'] = Camera(node, 'front', 'front/image', True)
    answers = []
    monkeypatch.setattr(Camera, 'answer', lambda self, message: answers.append(message))
    pipeline._settings()['class_id_format'] = 'index'
    message = to_compressed(photograph('cat'), Header(frame_id='eye'))
    pipeline.process([Letter('front', serialize_message(message), 0)])
    [answer] = answers
    assert answer.header == message.header
    assert all(result.class_id.isdecimal() for result in answer.results)
