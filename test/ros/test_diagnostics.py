"""What a person reads on /diagnostics of a node and its cameras."""

from types import SimpleNamespace

from cnn_perception.classifier import Classifier
from cnn_perception.ros.clock_watch import ClockWatch
from cnn_perception.ros.diagnostics import camera_status, CameraStatistics, node_status
from diagnostic_msgs.msg import DiagnosticStatus
import pytest
import rclpy


def test_rates_are_those_since_the_last_report_and_latencies_milliseconds(monkeypatch):
    now = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    statistics = CameraStatistics()
    statistics.count('received', 20)
    for _ in range(10):
        statistics.answered(0.050, 0.020, 0.010)
    now = 102.0
    values = statistics.snapshot()
    assert (values['input rate (Hz)'], values['output rate (Hz)']) == ('10.0', '5.0')
    assert [values[f'{name} median (ms)'] for name in ('latency', 'in node', 'inference')] == [
        '50.0', '20.0', '10.0']
    statistics.count('received', 3)
    now = 103.0
    values = statistics.snapshot()
    assert (values['input rate (Hz)'], values['output rate (Hz)']) == ('3.0', '0.0')


def test_of_twenty_frames_one_may_be_later_than_the_diagnostics_say():
    statistics = CameraStatistics()
    for number in range(1, 101):
        statistics.answered(0.001 * number, 0.0, 0.0)
    values = statistics.snapshot()
    assert float(values['latency median (ms)']) == pytest.approx(50.5)
    assert float(values['latency 95 % (ms)']) == pytest.approx(95.05, abs=0.1)


def test_bad_frames_are_a_warning_until_good_ones_come():
    statistics = CameraStatistics()
    statistics.count('received')
    statistics.count('rejected', problem="'rgb9' is no encoding")
    status = camera_status('camera', statistics, 1)
    assert (status.level, status.message) == (
        DiagnosticStatus.WARN, 'frames are rejected or failed: see last problem')
    values = {entry.key: entry.value for entry in status.values}
    assert values['last problem'] == "'rgb9' is no encoding (0 s ago)"
    status = camera_status('camera', statistics, 1)
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'receiving')


def test_a_camera_is_silent_after_some_of_its_own_pauses_and_without_publisher_at_once(
        monkeypatch):
    now = 100.0
    monkeypatch.setattr('time.monotonic', lambda: now)
    statistics = CameraStatistics()
    statistics.count('received')
    now += 14.0
    assert camera_status('camera', statistics, 1, pause=5.0).message == 'receiving'
    assert camera_status('camera', statistics, 0, pause=5.0).message == (
        'no image for 14 s; nobody publishes it')
    now += 2.0
    assert camera_status('camera', statistics, 1, pause=5.0).message.startswith(
        'no image for 16 s')


def test_losses_are_judged_by_what_came_since_the_last_report():
    statistics = CameraStatistics()
    messages = []
    # A few may be an accident, however large their share is.
    for received, lost in ((2, 2), (4, 4), (10, 0)):
        statistics.count('received', received)
        statistics.count('lost', lost)
        messages.append(camera_status('camera', statistics, 1).message)
    assert messages == ['receiving', '50 % of the images are lost on their way', 'receiving']


def test_what_nobody_counts_is_no_zero():
    statistics = CameraStatistics()
    assert statistics.snapshot()['lost'] == '0'
    statistics.numbered = False
    values = statistics.snapshot()
    assert values['lost'] == values['dropped'] == 'not counted by this middleware'
    assert values['received'] == '0'


def test_random_weights_and_failures_are_told():
    classifier = Classifier('lenet5', 'none', 'cpu', backend='torch')
    status = node_status('node', '', classifier, 'active')
    assert status.level == DiagnosticStatus.WARN
    assert status.message.startswith('random weights')
    status = node_status('node', 'configure failed: no file', None, 'unconfigured')
    assert (status.level, status.message) == (
        DiagnosticStatus.ERROR, 'configure failed: no file')


def test_a_clock_that_stands_is_told_once_and_not_for_what_was_not_heard(monkeypatch):
    now, time = [100.0], [0]
    monkeypatch.setattr('time.monotonic', lambda: now[0])
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node('reports', context=context)
    said = []
    clock = SimpleNamespace(ros_time_is_active=True,
                            now=lambda: SimpleNamespace(nanoseconds=time[0]))
    watch = ClockWatch(node, 'nothing is published')
    monkeypatch.setattr(node, 'get_clock', lambda: clock)
    monkeypatch.setattr(node, 'get_logger', lambda: SimpleNamespace(warning=said.append))

    def stands(seconds):
        now[0] += seconds
        return watch.stands()

    # Loading the network took a while, in which nobody listened.
    assert stands(60.0) and stands(4.0)
    time[0] = 10 ** 9
    assert not stands(3.0)
    # A simulation that begins anew.
    time[0] = 0
    assert stands(1.0) and stands(4.0)
    assert not said
    assert stands(2.0) and stands(60.0)
    [text] = said
    assert text.startswith('use_sim_time is true, but no time comes on /clock')
    assert text.endswith('until then nothing is published')
    node.destroy_node()
    context.shutdown()
