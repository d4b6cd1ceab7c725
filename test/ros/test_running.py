"""What a node holds while it is configured and while it is active, and what it reports of it."""

import time

from cnn_perception.preprocess import override, plain
from cnn_perception.ros.parameters import CLASSIFIER
from cnn_perception.ros.reporting import Reporter
from cnn_perception.ros.running import camera_names, Loaded, preprocessing_overrides, Running
import pytest
import rclpy
from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('parts', context=context)
    node.settings = {**{row.name: row.default for row in CLASSIFIER}, 'architecture': 'lenet5',
                     'weights': 'none', 'device': 'cpu', 'cameras': ('a', 'b', 'c')}
    yield node
    node.destroy_node()
    context.shutdown()


def test_what_was_loaded_is_warm_for_all_cameras_and_leaves_no_topic(node):
    before = {*node.publishers}
    loaded = Loaded(node, node.settings, 1)
    assert {size for size, _ in loaded.classifier.backend._compiled} >= {1, 2}
    loaded.destroy()
    assert {*node.publishers} == before


def test_the_window_is_in_seconds(node):
    node.settings['batch_window_ms'] = 30.0
    loaded = Loaded(node, node.settings, 1)
    running = Running(node, loaded, lambda: node.settings)
    assert running.receiver._window() == 0.03
    assert running.stop()
    assert running.ended()
    loaded.destroy()


@pytest.fixture
def report(node, monkeypatch):
    """Return (cameras, receiver, report); report gives the statuses of a report."""
    loaded = Loaded(node, node.settings, 1)
    running = Running(node, loaded, lambda: node.settings)
    reporter = Reporter(node, lambda: loaded, lambda: running, lambda: ('active', ''), 3600.0)
    assert reporter._timer.clock.clock_type == ClockType.STEADY_TIME
    sent = []
    monkeypatch.setattr(reporter, '_publisher', type('Kept', (), {
        'publish': staticmethod(sent.append)}))

    def report():
        reporter.report()
        return sent[-1].status
    yield loaded.cameras, running.receiver, report
    running.stop()
    loaded.destroy()


def publishers(node, topic, count):
    deadline = time.monotonic() + 20
    while node.count_publishers(topic) != count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.count_publishers(topic) == count


@pytest.mark.parametrize('reliability', list(ReliabilityPolicy)[1:3])
def test_only_publishers_that_none_can_be_heard_of_are_incompatible(node, report, reliability):
    cameras, receiver, statuses = report
    assert [status.name for status in statuses()] == ['/parts']  # nobody subscribes yet
    receiver.subscribe(QoSProfile(depth=1, reliability=reliability))
    camera = cameras['a']
    both = [node.create_publisher(Image, camera.topic, QoSProfile(depth=1, reliability=policy))
            for policy in (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE)]
    publishers(node, camera.topic, 2)
    assert len(statuses()) == 4
    assert 'incompatible' not in camera.transport._told
    node.destroy_publisher(both[1])
    publishers(node, camera.topic, 1)
    statuses()
    assert ('incompatible' in camera.transport._told) == (
        reliability == ReliabilityPolicy.RELIABLE)


def test_a_simulation_that_does_not_run_is_told_and_nothing_else(node, report, monkeypatch):
    cameras, receiver, statuses = report
    receiver.subscribe(QoSProfile(depth=1))
    node.create_publisher(Image, cameras['a'].topic, 1)
    publishers(node, cameras['a'].topic, 1)
    node.set_parameters([Parameter('use_sim_time', value=True)])
    said = []
    monkeypatch.setattr(type(node.get_logger()), 'warning',
                        lambda self, text, **options: said.append(text))
    statuses()
    assert not said
    now = time.monotonic()
    for later in (20.0, 40.0):
        monkeypatch.setattr('time.monotonic', lambda later=later: now + later)
        statuses()
    [text] = said
    assert 'use_sim_time is true, but no time comes on /clock' in text


@pytest.mark.parametrize(('size', 'std', 'expected'), [
    ([0, 0], [0.0] * 3, {'input_size': (), 'mean': (), 'std': ()}),
    ([2, 0], [1.0] * 3, {'input_size': (2, 0), 'mean': (0.0,) * 3, 'std': (1.0,) * 3})])
def test_a_mean_of_zero_counts_where_the_deviation_is_set(size, std, expected):
    assert preprocessing_overrides(
        {'input_size': size, 'mean': [0.0] * 3, 'std': std}) == expected


def test_a_mean_alone_is_refused():
    given = preprocessing_overrides({'input_size': [0, 0], 'mean': [0.5] * 3, 'std': [0.0] * 3})
    with pytest.raises(ValueError, match='without std'):
        override(plain((3, 8, 8)), **given)


@pytest.mark.parametrize(('names', 'fault'), [
    (('a', 'b', 'a'), "'a' is there twice"), (('a', '1'), "'1' is none")])
def test_names_of_cameras_that_are_refused(names, fault):
    with pytest.raises(ValueError, match=fault):
        camera_names(names)
