"""Transitions and parameters of the classifier, asked for over its services."""

import os
from pathlib import Path
import subprocess
import sys

from cnn_perception import backends
from cnn_perception.ros import parameters
from cnn_perception.ros.image_messages import from_rgb
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rcl_interfaces.msg import ParameterType
from ros_harness import LATCHED, ROOT
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, LabelInfo, VisionInfo

SMALL = {'architecture': 'mobilenet_v3_small', 'weights': 'none'}
DEFAULTS = {**{row.name: row.default for row in parameters.CLASSIFIER}, **SMALL}
QUICK = {'architecture': 'lenet5', 'weights': 'none'}


def picture():
    return from_rgb(np.full((48, 64, 3), 90, np.uint8), Header(frame_id='camera'))


def classifies(observer):
    answers = observer.listen(Classification, 'classifier/classification')
    camera = observer.publisher(Image, 'image')
    answers.clear()
    return bool(observer.publish_until(camera, picture, lambda: answers, timeout=15.0))


def is_silent(observer):
    answers = observer.listen(Classification, 'classifier/classification')
    camera = observer.publisher(Image, 'image')
    answers.clear()
    return not observer.publish_until(camera, picture, lambda: answers, timeout=1.5)


def test_every_transition(start, namespace, observer):
    process = start('classifier', namespace, autostart=False, **SMALL)
    told = observer.listen(VisionInfo, 'classifier/vision_info', LATCHED)
    assert observer.state() == 'unconfigured'
    answer = observer.call(Trigger, 'classifier/describe', Trigger.Request())
    assert answer.message.endswith(f': ros2 lifecycle set {namespace}/classifier configure')
    assert observer.node.count_subscribers(f'{namespace}/image') == 0
    assert observer.change_state('configure')
    assert observer.state() == 'inactive'
    assert is_silent(observer)
    assert observer.change_state('activate')
    assert observer.state() == 'active'
    assert classifies(observer)
    assert observer.change_state('deactivate')
    assert observer.state() == 'inactive'
    assert is_silent(observer)
    assert observer.node.count_subscribers(f'{namespace}/image') == 0
    assert observer.change_state('activate')
    assert classifies(observer)
    assert observer.change_state('deactivate')
    assert observer.change_state('cleanup')
    assert observer.state() == 'unconfigured'
    assert observer.node.count_publishers(f'{namespace}/classifier/label_info') == 0
    assert observer.change_state('configure')
    assert observer.change_state('activate')
    assert classifies(observer)
    assert [info.database_version for info in told] == [1, 2]
    assert observer.change_state('shutdown_active')
    assert observer.state() == 'finalized'
    assert 'Traceback' not in process.log
    assert process.stop() == 0


def test_topics_without_a_picture_are_not_offered(start, namespace, observer):
    process = start('classifier', namespace, **{**SMALL, 'architecture': 'linear'})
    process.wait_for_log('active')
    base = f'{namespace}/classifier'
    assert classifies(observer)
    # The last topics that are offered: all others have been by then.
    for topic in ('debug/early', 'debug/middle', 'label_info', 'vision_info'):
        assert observer.wait_for(
            lambda name=f'{base}/{topic}': observer.node.count_publishers(name) == 1)
    observer.spin(0.5)
    for topic in ('debug/late', 'debug/filters'):
        assert observer.node.count_publishers(f'{base}/{topic}') == 0


@pytest.mark.parametrize(('name', 'value', 'cause'), [
    ('architecture', 'resnt18', 'Did you mean resnet18'),
    ('image_transport', 'theora', 'expected one of: raw, compressed')])
def test_a_failed_start_tells_its_cause_and_can_be_mended(
        start, namespace, observer, name, value, cause):
    process = start('classifier', namespace, **{**SMALL, name: value})
    process.wait_for_log('configure failed: ')
    line = next(line for line in process.log.splitlines() if 'configure failed' in line)
    assert cause in line
    assert 'Traceback' not in process.log
    assert observer.state() == 'unconfigured'
    assert observer.set_parameter(name, DEFAULTS[name]).successful
    assert observer.change_state('configure')
    assert observer.change_state('activate')
    assert classifies(observer)


@pytest.fixture(scope='module')
def unconfigured(share):
    process, observer = share('classifier', autostart=False, **QUICK)
    observer.wait_for_state('unconfigured')
    return process, observer


@pytest.mark.parametrize(('wrong', 'cause'), [
    ({'weights': '/nowhere/model.pth'}, "no file '/nowhere/model.pth'"),
    ({'architecture': 'resnet18', 'weights': 'IMAGENET1K_V9'}, 'resnet18 has IMAGENET1K_V1'),
    ({'labels': '/nowhere/names.txt'}, "no file '/nowhere/names.txt'"),
    ({'device': 'gpu'}, "expected 'auto', 'cpu', 'cuda' or 'cuda:N'"),
    ({'device': 'cuda:99'}, 'check nvidia-smi'),
    ({'input_size': [4, 4, 4]}, 'expected [height, width]'),
    ({'backend': 'cuda'}, 'it runs on cuda'),
    ({'backend': 'tensorrt'}, 'it runs on cuda'),
    ({'calibration': '/nowhere'}, "calibration: source '/nowhere' does not exist"),
    ({'image_topic': 'camera/image-raw'}, "image_topic is 'camera/image-raw'"),
])
def test_configure_fails_with_its_cause_and_can_be_mended(unconfigured, wrong, cause):
    process, observer = unconfigured
    before = len(process.log)
    for name, value in wrong.items():
        assert observer.set_parameter(name, value).successful
    assert not observer.change_state('configure')
    process.wait_for_log('configure failed: ', since=before)
    line = next(line for line in process.log[before:].splitlines() if 'configure failed' in line)
    assert cause in line
    assert 'Traceback' not in process.log
    assert observer.state() == 'unconfigured'
    for name in wrong:
        assert observer.set_parameter(name, {**DEFAULTS, **QUICK}[name]).successful
    assert observer.change_state('configure')
    assert observer.state() == 'inactive'
    assert observer.change_state('cleanup')


def test_a_transition_by_number_that_is_not_possible_is_refused(start, namespace, observer):
    """As lifecycle managers ask: by number, whatever the state is."""
    process = start('classifier', namespace, autostart=False, **SMALL)
    observer.wait_for_state('unconfigured')
    refused = lambda number: not observer.call(  # noqa: E731
        ChangeState, 'classifier/change_state',
        ChangeState.Request(transition=Transition(id=number))).success
    assert all(refused(number) for number in (
        Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP, Transition.TRANSITION_ACTIVE_SHUTDOWN, 99))
    assert not refused(Transition.TRANSITION_CONFIGURE)
    assert refused(Transition.TRANSITION_CONFIGURE)
    assert not refused(Transition.TRANSITION_ACTIVATE)
    assert refused(Transition.TRANSITION_INACTIVE_SHUTDOWN)
    assert classifies(observer)
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    assert not refused(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert refused(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert observer.wait_for(lambda: any(
        status.message.startswith('finalized') for report in reports
        for status in report.status if status.name == f'{namespace}/classifier'))
    answer = observer.call(Trigger, 'classifier/describe', Trigger.Request())
    assert answer.message.startswith('the node is finalized')
    assert 'Traceback' not in process.log


AUTOSTART = """
import rclpy
from cnn_perception.ros.classifier_node import ClassifierNode
from rclpy.parameter import Parameter

rclpy.init(args=[])
node = ClassifierNode(parameter_overrides=[Parameter('architecture', value='linear'),
                                           Parameter('weights', value='none')])
node.trigger_configure()
for _ in range(10):  # other timers may be due before that of autostart
    rclpy.spin_once(node, timeout_sec=0.1)
print(node.condition())
node.stop()
rclpy.shutdown()
"""


def test_autostart_gives_way_to_whoever_configures_first():
    result = subprocess.run([sys.executable, '-c', AUTOSTART], capture_output=True, text=True,
                            env={**os.environ, 'PYTHONPATH': os.pathsep.join(
                                [str(ROOT), os.environ.get('PYTHONPATH', '')])})
    assert result.returncode == 0, result.stderr
    assert result.stdout == 'inactive\n'
    assert 'autostart leaves it to whoever has begun before' in result.stderr


DESTROYED = """
import threading

import rclpy
from cnn_perception.ros.classifier_node import ClassifierNode
from rclpy.parameter import Parameter

rclpy.init(args=[])
node = ClassifierNode(parameter_overrides=[Parameter('architecture', value='linear'),
                                           Parameter('weights', value='none')])
while node.condition() != 'active':
    rclpy.spin_once(node)
own = lambda: sorted({thread.name for thread in threading.enumerate()} & {
    'classifying', 'drawing', 'preparing'})
print(own())
node.destroy_node()
print(own(), node.condition())
rclpy.shutdown()
"""


def test_a_node_that_is_destroyed_leaves_no_thread_to_the_process_of_others():
    result = subprocess.run([sys.executable, '-c', DESTROYED], capture_output=True, text=True,
                            timeout=120, env={**os.environ, 'PYTHONPATH': os.pathsep.join(
                                [str(ROOT), os.environ.get('PYTHONPATH', '')])})
    assert result.returncode == 0, result.stderr
    assert result.stdout == "['classifying', 'drawing', 'preparing']\n[] unconfigured\n"


def test_a_failed_configure_leaves_no_publisher(start, namespace, observer):
    # Its images have a name, its answers have one that is too long: the first camera's are there.
    long = 'a' * (247 - len(f'{namespace}//image'))
    process = start('classifier', namespace, cameras=f'[front, {long}]', **SMALL)
    process.wait_for_log('configure failed: ')
    assert 'topic length should not exceed' in process.log
    topic = f'{namespace}/classifier/front/classification'
    assert observer.wait_for(lambda: observer.node.count_publishers(topic) == 0)
    assert observer.set_parameter('cameras', ['front']).successful
    assert observer.change_state('configure')
    assert observer.wait_for(lambda: observer.node.count_publishers(topic) == 1)


@pytest.mark.parametrize(('argument', 'expected'), [
    ('top_k:=0', 'out of range'), ('top_k:=many', "expecting type 'INTEGER'"),
    ('score_threshold:=1.5', 'out of range'),
    ('mean:=[0, 0, 0]', 'written with a point here: 1.0 for 1'),
    ('labels:=123', 'written in quotes: "1" for 1'),
    ('debug.layers:=conv1', 'several are written in brackets')])
def test_a_parameter_out_of_range_ends_the_start_with_one_line(
        start, namespace, argument, expected):
    process = start('classifier', namespace, '-p', argument, **SMALL)
    assert process.process.wait(60) == 1
    assert 'Traceback' not in process.log
    assert 'not started' in process.log
    assert expected in process.log
    assert argument.split(':')[0] in process.log


def test_a_misspelt_parameter_is_warned_of(start, namespace):
    process = start('classifier', namespace, archtecture='resnet18', **SMALL)
    process.wait_for_log("'archtecture' is not this node's and has no effect; "
                         'did you mean architecture?')


def test_backends_and_precisions_are_those_of_the_registry():
    rows = {row.name: row.choices for row in parameters.CLASSIFIER}
    assert rows['backend'] == ('auto', *backends.names())
    assert rows['precision'] == ('auto', *backends.PRECISIONS)


def test_random_weights_are_announced(start, namespace):
    start('classifier', namespace, **SMALL).wait_for_log('ITS ANSWERS MEAN NOTHING')


def test_parameters_are_declared_as_the_table_says(watcher):
    rows = {row.name: row for row in parameters.CLASSIFIER}
    assert set(rows) <= set(watcher.list_parameters())
    for descriptor in watcher.describe_parameters(list(rows)):
        row = rows[descriptor.name]
        assert descriptor.description == row.description
        assert descriptor.description.endswith('.')
        assert descriptor.type != ParameterType.PARAMETER_NOT_SET
        assert descriptor.read_only == (row.when == parameters.START)
        if row.choices:
            assert all(choice in descriptor.additional_constraints for choice in row.choices)
        if row.bounds:
            [limits] = [*descriptor.integer_range, *descriptor.floating_point_range]
            assert (limits.from_value, limits.to_value) == row.bounds


@pytest.mark.parametrize('name', [
    row.name for row in parameters.CLASSIFIER if row.when == parameters.UNCONFIGURED])
def test_what_needs_a_configure_is_refused_while_active(watcher, name):
    before = watcher.get_parameter(name)
    value = next(row.default for row in parameters.CLASSIFIER if row.name == name)
    result = watcher.set_parameter(name, value)
    assert not result.successful
    assert 'changes only while the node is unconfigured' in result.reason
    assert f'{watcher.namespace}/classifier' in result.reason
    assert watcher.get_parameter(name) == before


@pytest.mark.parametrize(('name', 'value', 'reason'), [
    ('top_k', 0, ''), ('score_threshold', 1.5, ''), ('top_k', 'five', ''),
    ('class_id_format', 'number', 'expected one of: name, index'), ('autostart', False, '')])
def test_wrong_values_are_refused_while_running(watcher, name, value, reason):
    result = watcher.set_parameter(name, value)
    assert not result.successful
    assert reason in result.reason


def test_live_parameters_take_effect(watcher):
    answers = watcher.listen(Classification, 'classifier/classification')
    camera = watcher.publisher(Image, 'image')

    def answer_after(**changes):
        for name, value in changes.items():
            assert watcher.set_parameter(name, value).successful
        watcher.spin(0.3)
        answers.clear()
        assert watcher.publish_until(camera, picture, lambda: answers)
        return answers[-1].results

    try:
        assert len(answer_after(top_k=3)) == 3
        assert len(answer_after(top_k=1000)) == 1000
        scores = [result.score for result in answer_after(top_k=1000)]
        assert sum(scores) == pytest.approx(1, abs=1e-4)
        by_name = answer_after(top_k=2)
        by_index = answer_after(class_id_format='index')
        assert by_index[0].class_id.isdecimal()
        assert by_index[0].class_id != by_name[0].class_id
        threshold = (by_name[0].score + by_name[1].score) / 2
        assert len(answer_after(score_threshold=threshold)) == 1
        assert len(answer_after(score_threshold=1.0)) == 0
        labels = watcher.listen(LabelInfo, 'classifier/label_info', LATCHED)
        assert watcher.wait_for(lambda: labels and labels[-1].threshold == pytest.approx(1.0))
    finally:
        for name, value in {'top_k': 5, 'class_id_format': 'name', 'score_threshold': 0.0}.items():
            assert watcher.set_parameter(name, value).successful


def test_enable_drops_and_takes_up_the_subscription(watcher):
    topic = f'{watcher.namespace}/image'
    count = lambda: watcher.node.count_subscribers(topic)  # noqa: E731
    assert watcher.wait_for(lambda: count() == 1)
    assert watcher.set_parameter('enable', False).successful
    assert watcher.wait_for(lambda: count() == 0)
    assert is_silent(watcher)
    reports = watcher.listen(DiagnosticArray, '/diagnostics')
    assert watcher.wait_for(lambda: any(
        'enable is false' in status.message for report in reports for status in report.status
        if status.name == f'{watcher.namespace}/classifier'))
    assert watcher.set_parameter('enable', True).successful
    assert watcher.wait_for(lambda: count() == 1)
    assert classifies(watcher)


def test_architecture_changes_between_cleanup_and_configure(start, namespace, observer):
    process = start('classifier', namespace, **SMALL)
    observer.wait_for_state('active')
    assert observer.change_state('deactivate')
    assert observer.change_state('cleanup')
    assert observer.set_parameter('architecture', 'squeezenet1_1').successful
    assert observer.change_state('configure')
    assert observer.change_state('activate')
    assert classifies(observer)
    assert 'squeezenet1_1 ready in' in process.log


def test_the_period_of_diagnostics_changes_at_configure(start, namespace, observer):
    start('classifier', namespace, autostart=False, diagnostics_period=3600.0, **SMALL)
    observer.wait_for_state('unconfigured')
    reports = observer.listen(DiagnosticArray, '/diagnostics')
    own = lambda: [status for report in reports for status in report.status  # noqa: E731
                   if status.name == f'{namespace}/classifier']
    assert observer.set_parameter('diagnostics_period', 0.1).successful
    assert observer.change_state('configure')
    assert observer.wait_for(own)


@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='no /proc to count threads in')
def test_what_a_network_held_is_freed_with_it(start, namespace, observer):
    process = start('classifier', namespace, **SMALL, debug__layers='[classifier.0]',
                    autostart=False)
    observer.wait_for_state('unconfigured')
    camera = observer.publisher(Image, 'image')
    pictures = observer.listen(Image, 'classifier/debug/classifier_0')
    threads = []
    for _ in range(3):
        assert observer.change_state('configure')
        assert observer.change_state('activate')
        pictures.clear()
        assert observer.publish_until(camera, picture, lambda: pictures, timeout=30.0)
        assert observer.change_state('deactivate')
        assert observer.change_state('cleanup')
        threads.append(len([*Path(f'/proc/{process.process.pid}/task').iterdir()]))
    # The first network loads libraries, which keep threads of their own.
    assert threads[1] == threads[2], threads
