"""What a node holds while it is configured and while it is active, and what it reports of it."""

import gc
import threading
import time
import weakref

from cnn_perception.classifier import Classifier
from cnn_perception.preprocess import override, plain
from cnn_perception.ros.classifier_node import ClassifierNode, SUCCESS
from cnn_perception.ros.debug_settings import read_settings
from cnn_perception.ros.elsewhere import elsewhere
from cnn_perception.ros.image_messages import from_rgb
from cnn_perception.ros.parameters import CLASSIFIER
from cnn_perception.ros.receiver import Receiver
from cnn_perception.ros.reporting import Reporter
from cnn_perception.ros.running import (
    calibration, camera_names, Loaded, MOST_CALIBRATION, preprocessing_overrides, Running)
from cnn_perception.ros.worker import Worker
import cv2
import numpy as np
import pytest
import rclpy
from rclpy.clock import ClockType
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import LabelInfo


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


def test_who_is_told_to_end_loads_no_further(node, monkeypatch):
    monkeypatch.setattr(node.context, 'ok', lambda: False)
    with pytest.raises(RuntimeError, match='told to end while the network was loaded'):
        Loaded(node, node.settings, 1)


def test_layers_whose_topics_become_too_long_are_refused_for_all_cameras(node):
    node.settings.update(cameras=('a', 'b' * 215), architecture='squeezenet1_1', backend='torch')
    loaded = Loaded(node, node.settings, 1)
    before = loaded.cameras['a'].layers()
    long = read_settings({
        **node.settings, 'debug.layers': ('features.12.expand3x3_activation',)})
    with pytest.raises(ValueError, match=r'cannot have the topic .*: topic length should not'):
        loaded.change_debug(long)
    assert loaded.cameras['a'].layers() == before
    assert loaded.debug != long
    loaded.destroy()


def test_the_window_is_in_seconds(node):
    node.settings['batch_window_ms'] = 30.0
    loaded = Loaded(node, node.settings, 1)
    before = [*node.guards]
    running = Running(node, loaded, lambda: node.settings)
    assert running.receiver._window() == 0.03
    assert running.stop()
    assert running.ended()
    assert [*node.guards] == before
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


def test_of_the_topics_with_images_a_few_are_named_and_pictures_of_others_last(node):
    loaded = Loaded(node, node.settings, 1)
    assert '/parts/' not in elsewhere(node, loaded.cameras['a'])  # its own pictures are none
    for topic in ('/a2/debug/cam', '/a4', '/a1', '/a3'):
        node.create_publisher(Image, topic, 1)
        publishers(node, topic, 1)
    assert elsewhere(node, loaded.cameras['a']) == (
        f'but there are images on /a1, /a3, /a4: remap {loaded.cameras["a"].topic}')
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
    heard = 2 if reliability == ReliabilityPolicy.BEST_EFFORT else 1
    assert camera.statistics.alone is (heard == 1)
    assert 'incompatible' not in camera.transport._told
    node.destroy_publisher(both[1])
    publishers(node, camera.topic, 1)
    statuses()
    assert ('incompatible' in camera.transport._told) == (
        reliability == ReliabilityPolicy.RELIABLE)


def test_another_type_beside_the_right_one_is_no_trouble(node, report):
    cameras, receiver, statuses = report
    receiver.subscribe(QoSProfile(depth=1))
    topic = cameras['a'].topic
    node.create_publisher(Image, topic, 1)
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    other = rclpy.create_node('other', context=context)
    other.create_publisher(CompressedImage, topic, 1)
    publishers(node, topic, 2)
    statuses()
    assert 'type' not in cameras['a'].transport._told
    other.destroy_node()
    context.shutdown()


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
    (('a', 'b', 'a'), "'a' is there twice"), (('a', '1'), "'1' is none"),
    (('kä',), "'kä' is none")])
def test_names_of_cameras_that_are_refused(names, fault):
    with pytest.raises(ValueError, match=fault):
        camera_names(names)


def test_no_more_pictures_are_read_for_calibration_than_it_takes(tmp_path):
    for number in range(MOST_CALIBRATION + 1):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.zeros((4, 4, 3), np.uint8))
    assert len(calibration(str(tmp_path))) == MOST_CALIBRATION


@pytest.fixture
def classifier():
    """Return a function that makes a node of this process, inactive, with parameters."""
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    nodes = []

    def make(**settings):
        settings = {'autostart': False, 'architecture': 'lenet5', 'weights': 'none',
                    'device': 'cpu', 'backend': 'torch', **settings}
        nodes.append(ClassifierNode(context=context, parameter_overrides=[
            Parameter(name.replace('__', '.'), value=value)
            for name, value in settings.items()]))
        assert nodes[-1].trigger_configure() == SUCCESS
        return nodes[-1]
    yield make
    for node in nodes:
        node.destroy_node()
    context.shutdown()


def own_threads():
    return {thread.name for thread in threading.enumerate()} & {
        'classifying', 'drawing', 'preparing'}


def test_an_activation_that_fails_leaves_nothing_and_can_be_tried_again(
        classifier, monkeypatch):
    node = classifier()
    with monkeypatch.context() as patch:
        patch.setattr(Receiver, 'subscribe', None)
        assert node.trigger_activate() != SUCCESS
    assert node.condition() == 'inactive'
    assert not own_threads()
    assert node._failure.startswith('activate failed: ')
    assert node.trigger_activate() == SUCCESS
    assert node._failure == ''


def test_a_network_that_cannot_be_traced_is_told_of_and_runs(classifier, monkeypatch):
    def layer_names(self):
        raise ValueError('it decides on what it sees')
    said = []
    monkeypatch.setattr(Classifier, 'layer_names', layer_names)
    monkeypatch.setattr(RcutilsLogger, 'warning', lambda self, text, **options: said.append(text))
    node = classifier()
    assert 'no layer can be shown: it decides on what it sees' in said
    [answer] = [service.callback(Trigger.Request(), Trigger.Response())
                for service in node._questions if service.srv_name.endswith('list_layers')]
    assert (answer.success, answer.message) == (False, 'it decides on what it sees')


def test_what_is_set_before_the_start_holds_from_the_start(classifier):
    node = classifier(enable=False, qos__depth=3, score_threshold=0.25)
    assert node.trigger_activate() == SUCCESS
    receiver = node._running.receiver
    assert not receiver.subscribed()
    node.set_parameters([Parameter('enable', value=True)])
    [line] = receiver._lines
    assert line.subscription.qos_profile.depth == receiver._depth == 3
    told = []
    node.create_subscription(LabelInfo, '~/label_info', told.append, QoSProfile(
        depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + 20
    while not told and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
    executor.shutdown()
    assert told[0].threshold == 0.25


def test_a_cleanup_frees_the_network_although_nothing_was_to_be_collected(classifier):
    node = classifier()
    module = weakref.ref(node._loaded.classifier.network.module)
    assert gc.get_freeze_count() > 0
    assert node.trigger_cleanup() == SUCCESS
    assert module() is None


def test_a_thread_that_hangs_is_left_behind_and_answers_nothing_any_more(
        classifier, monkeypatch):
    node = classifier()
    assert node.trigger_activate() == SUCCESS
    running, began, leave, said = node._running, threading.Event(), threading.Event(), []
    monkeypatch.setattr(RcutilsLogger, 'error', lambda self, text, **options: said.append(text))
    predict = node._loaded.classifier.predict

    def hang(frames, taps=()):
        began.set()
        assert leave.wait(20)
        return predict(frames, taps)
    monkeypatch.setattr(node._loaded.classifier, 'predict', hang)
    publisher = node.create_publisher(Image, 'image', 1)
    deadline = time.monotonic() + 20
    while not began.wait(0.1) and time.monotonic() < deadline:
        publisher.publish(from_rgb(np.zeros((9, 9, 3), np.uint8), Header()))
    stop = Worker.stop
    monkeypatch.setattr(Worker, 'stop', lambda self: stop(self, 0.2))
    assert node.trigger_deactivate() == SUCCESS
    assert node.stop() is False
    leave.set()
    while not running.ended() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert node.stop() is True
    assert said == ['classifying did not finish within 10 s; it is left behind']
