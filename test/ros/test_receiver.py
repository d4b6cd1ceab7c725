"""The newest image of each camera, over a real DDS: replaced, lost, late, many, none."""

import threading
import time

from cnn_perception.ros import receiver
from cnn_perception.ros.camera import Camera, image_topic
from cnn_perception.ros.raw_image import read
from cnn_perception.ros.receiver import MOST_IN_VAIN, Receiver
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Bench:
    """A receiver, its cameras, and publishers for them."""

    def __init__(self, names, window=0.0, qos=NEWEST):
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = rclpy.create_node('receiver', context=self.context)
        self.cameras = {name: Camera(self.node, name, image_topic(
            self.node, name, 'image', False), False) for name in names}
        self.window = window
        self.receiver = Receiver(self.node, self.cameras, lambda: self.window)
        self.publishers = {name: self.node.create_publisher(
            Image, camera.topic, QoSProfile(depth=100)) for name, camera in self.cameras.items()}
        self.receiver.subscribe(qos)
        deadline = time.monotonic() + 20
        while not all(publisher.get_subscription_count()
                      for publisher in self.publishers.values()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.2)

    def send(self, name, *numbers, publisher=None):
        for number in numbers:
            message = Image()
            message.header.stamp.sec = number
            (publisher or self.publishers[name]).publish(message)
        time.sleep(0.1)

    def take(self):
        """Return {camera: number of its image}."""
        return {letter.camera: read(letter.message, Image).header.stamp.sec
                for letter in self.receiver.take()}

    def take_in_a_thread(self):
        """Return a thread that has begun to take."""
        thread = threading.Thread(target=self.take, daemon=True)
        thread.start()
        time.sleep(0.2)
        return thread

    def counts(self, name):
        counts = self.cameras[name].statistics.counts
        return tuple(counts[key] for key in ('received', 'dropped', 'lost'))


@pytest.fixture
def bench():
    made = []

    def make(*names, **options):
        made.append(Bench(names, **options))
        return made[-1]

    yield make
    for bench in made:
        bench.receiver.close()
        bench.receiver.destroy()
        bench.node.destroy_node()
        rclpy.try_shutdown(context=bench.context)


def test_the_newest_wins_and_what_it_replaced_is_counted(bench):
    one = bench('a')
    one.send('a', 1)
    assert one.take() == {'a': 1}
    one.send('a', 2, 3, 4, 5)
    assert one.take() == {'a': 5}
    assert one.counts('a') == (5, 3, 0)


def test_a_longer_queue_is_emptied_too(bench):
    one = bench('a', qos=QoSProfile(depth=3))
    one.send('a', 1, 2, 3, 4, 5)
    assert one.take() == {'a': 5}
    one.send('a', 6)
    assert one.take() == {'a': 6}
    # 1 and 2 were replaced before there was anything to count from.
    assert one.counts('a') == (4, 2, 0)


def test_all_cameras_that_have_an_image_are_taken_together(bench):
    several = bench('fast', 'slow', 'silent')
    several.send('slow', 10)
    several.send('fast', 1, 2, 3)
    assert several.take() == {'fast': 3, 'slow': 10}
    several.send('fast', 4)
    assert several.take() == {'fast': 4}


def test_a_window_waits_for_the_others_and_not_longer(bench):
    two = bench('a', 'b', window=5.0)
    two.send('a', 1)
    later = threading.Timer(0.2, two.send, ['b', 2])
    later.start()
    began = time.monotonic()
    assert two.take() == {'a': 1, 'b': 2}
    assert time.monotonic() - began < 4.0
    later.join()
    hurried = bench('c', 'd', window=0.05)
    hurried.send('c', 1)
    assert hurried.take() == {'c': 1}


def test_who_waits_for_the_others_is_woken_too(bench):
    two = bench('a', 'b', window=60.0)
    two.send('a', 1)
    thread = two.take_in_a_thread()
    two.receiver.close()
    thread.join(5.0)
    assert not thread.is_alive()
    assert not two.receiver.subscribed()


def test_nobody_is_waited_for_who_is_not_subscribed_any_more(bench, monkeypatch):
    two, looks = bench('a', 'b', window=60.0), []
    look = two.receiver._look
    monkeypatch.setattr(two.receiver, '_look', lambda *given: (looks.append(0), look(*given))[1])
    two.send('a', 1)
    thread = two.take_in_a_thread()
    two.receiver.unsubscribe()
    time.sleep(0.1)
    before = len(looks)
    time.sleep(0.2)
    assert len(looks) <= before + 2
    two.receiver.close()
    thread.join(5.0)
    assert not thread.is_alive()


def test_a_camera_that_does_not_come_any_more_is_not_waited_for(bench):
    two = bench('a', 'b', window=0.2)
    for number in range(MOST_IN_VAIN):
        two.send('a', number)
        assert two.take() == {'a': number}
    two.window = 60.0
    two.send('a', 10)
    assert two.take() == {'a': 10}
    # It is taken where it is there, and waited for again.
    two.send('a', 11)
    two.send('b', 12)
    assert two.take() == {'a': 11, 'b': 12}
    two.send('a', 13)
    later = threading.Timer(0.2, two.send, ['b', 14])
    later.start()
    assert two.take() == {'a': 13, 'b': 14}
    later.join()


def test_a_camera_that_is_not_due_within_the_window_is_not_waited_for(bench):
    two = bench('a', 'b', window=60.0)
    two.send('b', 1)
    line = two.receiver._lines[1]
    assert two.receiver._newest(line) is not None
    # As if there had been others before: the pace of the last ones counts.
    line.gaps.extend([30e9, 100e9, 120e9, 100e9])
    began = time.monotonic()
    two.send('a', 2)
    assert two.take() == {'a': 2}
    assert time.monotonic() - began < 30.0
    assert line.vain == 0
    line.gaps.append(50e9)
    later = threading.Timer(0.2, two.send, ['b', 3])
    later.start()
    two.send('a', 4)
    assert two.take() == {'a': 4, 'b': 3}
    later.join()
    # Of its own last images, whatever was lost or replaced between them.
    assert line.gaps[-1] < 30e9


def test_a_camera_that_speeds_up_loses_nothing(bench):
    """While a batch takes its time, what is replaced follows the pace of this moment."""
    one = bench('a')
    steady(one, 'a', 0.3, 9)
    for turn in range(3):
        before = one.counts('a')
        send_steadily(one, 'a', 10, 0.03)
        one.take()
        received, _, lost = (after - then for after, then in zip(one.counts('a'), before))
        assert received + lost == 10
        # In the first turn nobody can know when the camera began to be faster.
        assert lost <= (1 if turn else 6)


def test_images_that_never_arrive_are_told_from_those_that_were_replaced(bench):
    """A gap in the publisher's count while the thread waited is the transport's."""
    one = bench('a')
    one.send('a', 1)
    one.take()
    take_after(one, 2)
    assert one.counts('a') == (2, 0, 2)


def take_after(one, missing, stood_still=0):
    """Take an image as if others had been sent while it was waited for; stood_still: ns."""
    [line] = one.receiver._lines
    waiting = threading.Thread(target=one.take)
    waiting.start()
    time.sleep(0.2)
    line.number -= missing
    line.arrival -= stood_still
    line.emptied -= stood_still
    one.send('a', 2)
    waiting.join(5.0)


def test_what_comes_between_the_end_of_a_wait_and_the_taking_is_no_loss(bench):
    """The network has worked for a while, and the newest image comes at the last moment."""
    one = bench('a')
    steady(one, 'a')
    before = one.counts('a')
    looked = one.receiver._wait
    # Ten images while the network works; the last of them after the wait that finds one there.
    send_steadily(one, 'a', 9)

    def wait(*arguments):
        ready = looked(*arguments)
        one.send('a', 9)
        return ready
    one.receiver._wait = wait
    assert one.take() == {'a': 9}
    received, dropped, lost = (after - then for after, then in zip(one.counts('a'), before))
    assert lost <= 1
    assert (received + lost, received - dropped) == (10, 1)


def test_images_that_come_in_bursts_are_no_loss(bench):
    """As a wireless link or a recording delivers them, while the network works."""
    one = bench('a')
    steady(one, 'a')
    before = one.counts('a')
    for _ in range(8):
        send_steadily(one, 'a', 4, 0.0)
        time.sleep(0.2)
        assert one.take() == {'a': 3}
    received, dropped, lost = (after - then for after, then in zip(one.counts('a'), before))
    assert (received, dropped, lost) == (32, 24, 0)


def test_a_process_that_was_stopped_has_lost_nothing(bench, monkeypatch):
    """The wait in which it was stopped ends without an image, which the next one finds."""
    one = bench('a')
    steady(one, 'a')
    before = one.counts('a')
    [line] = one.receiver._lines
    now = time.time_ns
    # As if five seconds passed in a wait of a hundredth.
    times = iter([now(), now() + 5 * 10 ** 9])
    monkeypatch.setattr('cnn_perception.ros.receiver.time.time_ns', lambda: next(times))
    assert one.receiver._wait([line], 0.01) == []
    monkeypatch.undo()
    # What came while it stood still was replaced before it could look.
    take_after(one, 4, 5 * 10 ** 9)
    received, dropped, lost = (after - then for after, then in zip(one.counts('a'), before))
    assert (received, dropped, lost) == (5, 4, 0)
    # From then on a gap in a wait is a loss again.
    take_after(one, 2)
    assert one.counts('a')[2] == before[2] + 2


def test_what_comes_late_after_seconds_of_work_is_no_loss(bench):
    one = bench('a')
    steady(one, 'a')
    before = one.counts('a')
    [line] = one.receiver._lines
    line.emptied, line.arrival = line.emptied - 5 * 10 ** 9, line.arrival - 5 * 10 ** 9
    take_after(one, 4)
    received, dropped, lost = (after - then for after, then in zip(one.counts('a'), before))
    assert (received, dropped, lost) == (5, 4, 0)


def send_steadily(one, name, count, period=0.05):
    for number in range(count):
        message = Image()
        message.header.stamp.sec = number
        one.publishers[name].publish(message)
        time.sleep(period)


def steady(one, name, period=0.05, count=10):
    """Send and take at a steady pace, so that the pace is known."""
    for _ in range(count):
        send_steadily(one, name, 1, period)
        one.take()


def test_what_could_not_be_due_was_lost_and_not_replaced(bench):
    """Busy with another camera for a moment, the thread finds a gap of many periods."""
    two = bench('a', 'b')
    steady(two, 'a')
    line = two.receiver._lines[0]
    before = two.counts('a')
    waiting = threading.Thread(target=two.take)
    waiting.start()
    time.sleep(0.2)
    two.send('b', 1)
    waiting.join(5.0)
    line.number -= 20  # as if twenty had been sent, before `b` came, and nothing arrived
    message = Image()
    two.publishers['a'].publish(message)
    time.sleep(0.02)
    two.take()
    received, dropped, lost = (after - then for after, then in zip(two.counts('a'), before))
    assert lost >= 10
    assert received - dropped == 1
    assert dropped + lost == 20


def test_a_window_does_not_make_losses_of_what_was_replaced(bench):
    """While others are waited for, images of the first camera are replaced."""
    two = bench('fast', 'slow')
    steady(two, 'fast', 0.02)
    two.window = 0.5
    before = two.counts('fast')
    two.send('fast', 50)
    waiting = threading.Thread(target=two.take)
    waiting.start()
    send_steadily(two, 'fast', 15, 0.02)
    waiting.join(5.0)
    received, dropped, lost = (after - then for after, then in zip(two.counts('fast'), before))
    assert lost <= 1
    assert dropped >= 10
    assert received == dropped + 1


def test_two_publishers_of_one_topic_are_not_mistaken_for_losses(bench):
    one = bench('a')
    other = one.node.create_publisher(Image, one.cameras['a'].topic, QoSProfile(depth=100))
    time.sleep(0.3)
    one.send('a', 1, 2, 3)
    one.take()
    # The other has published more, which looks like a loss.
    one.send('a', *range(10), publisher=other)
    one.take()
    assert one.counts('a') == (2, 0, 0)
    counted = one.cameras['a'].statistics.snapshot
    assert counted()['lost'] == 'not counted while several publishers are there'
    one.send('a', 4)
    one.take()
    for number in range(4, 8):
        one.send('a', number, publisher=other if number % 2 else None)
        assert one.take() == {'a': number}
    assert one.counts('a') == (7, 0, 0)
    # Nor is it one when the first one has gone, and from then on there is one count again.
    one.node.destroy_publisher(one.publishers.pop('a'))
    time.sleep(0.3)
    one.send('a', 8, publisher=other)
    one.take()
    assert one.counts('a') == (8, 0, 0)
    assert counted()['lost'] == '0'
    one.send('a', 9, publisher=other)
    one.take()
    for number in range(10, 13):
        one.send('a', number, publisher=other)
    assert one.take() == {'a': 12}
    assert one.counts('a') == (12, 2, 0)


def test_the_last_image_of_a_publisher_that_has_gone_begins_no_count(bench):
    one = bench('a')
    other = one.node.create_publisher(Image, one.cameras['a'].topic, QoSProfile(depth=100))
    time.sleep(0.3)
    send_steadily(one, 'a', 50, 0.0)
    time.sleep(0.1)
    assert one.take() == {'a': 49}
    one.send('a', 100, publisher=other)
    one.node.destroy_publisher(other)
    time.sleep(0.3)
    assert one.take() == {'a': 100}
    one.send('a', 50)
    assert one.take() == {'a': 50}
    assert one.counts('a') == (3, 0, 0)
    # From here on there is one count again.
    one.send('a', 51)
    one.take()
    send_steadily(one, 'a', 2, 0.0)
    time.sleep(0.1)
    one.take()
    assert sum(one.counts('a')[1:]) == 1


def test_whoever_replaces_a_publisher_that_has_gone_is_counted_anew(bench):
    one = bench('a')
    send_steadily(one, 'a', 3, 0.0)
    time.sleep(0.1)
    one.take()
    [line] = one.receiver._lines
    assert (line.number, line.publishers) == (3, 1)
    one.node.destroy_publisher(one.publishers.pop('a'))
    assert one.receiver._wait([line], 1.2) == []
    assert (line.number, line.publishers) == (None, 0)
    # Counted once a second, not at each look.
    line.publishers = 1
    one.receiver._wait([line], 0.0)
    assert line.publishers == 1


def test_a_publisher_that_starts_again_loses_nothing(bench):
    one = bench('a')
    one.send('a', 1, 2, 3)
    one.take()
    again = one.node.create_publisher(Image, one.cameras['a'].topic, QoSProfile(depth=100))
    time.sleep(0.3)
    one.send('a', 4, publisher=again)
    assert one.take() == {'a': 4}
    assert one.counts('a') == (2, 0, 0)


@pytest.fixture
def waiting(monkeypatch):
    """Return a function that has a thread take images, once it waits, and what it has taken."""
    # Nothing but the event itself may wake it.
    monkeypatch.setattr(receiver, 'LONGEST_WAIT', 60.0)
    threads = []

    def begin(one):
        taken, waits, original = [], threading.Event(), one.receiver._wait

        def wait(lines, seconds):
            waits.set()
            return original(lines, seconds)
        one.receiver._wait = wait
        threads.append(threading.Thread(target=lambda: taken.append(one.receiver.take())))
        threads[-1].start()
        assert waits.wait(20)
        time.sleep(0.2)
        return threads[-1], taken
    yield begin
    for thread in threads:
        thread.join(20)


@pytest.mark.parametrize('end', ['close', 'shutdown', 'subscribe'])
def test_a_waiting_thread_is_woken(bench, waiting, end, monkeypatch):
    one = bench('a')
    if end == 'subscribe':
        one.receiver.unsubscribe()
    elif end == 'shutdown' and hasattr(one.context, 'track_node'):
        # Since Kilted a context destroys its nodes before it tells anybody: nothing to wake with.
        monkeypatch.setattr(receiver, 'LONGEST_WAIT', 1.0)
    thread, taken = waiting(one)
    if end == 'close':
        one.receiver.close()
    elif end == 'shutdown':
        one.context.shutdown()
    else:
        one.receiver.subscribe(NEWEST)
        deadline = time.monotonic() + 20
        while not taken and time.monotonic() < deadline:
            one.send('a', 7)
    thread.join(20.0)
    assert len(taken) == 1
    assert bool(taken[0]) == (end == 'subscribe')


def test_a_wait_that_begins_after_the_end_finds_nothing(bench):
    one = bench('a')
    one.context.shutdown()
    assert one.receiver._wait(one.receiver._lines, 0.0) == []


def test_the_network_is_busy_from_taking_images_to_waiting_for_the_next(bench, waiting):
    one = bench('a')
    assert one.receiver.seconds_busy() == 0.0
    one.send('a', 1)
    one.take()
    assert one.receiver.seconds_busy() > 0.0
    waiting(one)
    assert one.receiver.seconds_busy() == 0.0
    one.receiver.close()


def test_who_subscribes_again_has_missed_nothing_meanwhile(bench, monkeypatch):
    one = bench('a')
    one.send('a', 1)
    one.take()
    one.receiver.unsubscribe()
    now = time.monotonic
    monkeypatch.setattr('time.monotonic', lambda: now() + 60.0)
    one.receiver.subscribe(NEWEST)
    assert one.cameras['a'].transport.complaint(1) == ''


def test_what_was_replaced_is_no_trouble_of_the_transport(bench):
    one = bench('a')
    for _ in range(15):
        send_steadily(one, 'a', 4, 0.03)
        one.take()
    assert one.counts('a')[2] == 0
    assert one.cameras['a'].transport.complaint(1) == ''


def test_without_numbers_only_an_image_that_was_waited_for_tells_when_it_was_published(bench):
    one = bench('a')
    [line] = one.receiver._lines
    line.waited = True
    data = serialize_message(Image())
    for arrival in (5 * 10 ** 9, 6 * 10 ** 9):
        one.receiver._account(line, data, {
            'source_timestamp': arrival - 10 ** 9, 'received_timestamp': arrival})
    seen = one.cameras['a'].transport._seen()
    assert seen['waited'].tolist() == [True, False]
    assert seen['transit'].tolist() == [10 ** 9, 0]
    assert one.cameras['a'].statistics.snapshot()['lost'] == 'not counted by this middleware'


def test_stamps_of_a_simulation_are_no_age(bench):
    one = bench('a')
    one.node.set_parameters([Parameter('use_sim_time', value=True)])
    one.send('a', 1)
    one.take()
    assert one.cameras['a'].transport._seen()['age'].tolist() == [0]


def test_equal_numbers_of_two_publishers_are_no_loss(bench):
    one = bench('a')
    other = one.node.create_publisher(Image, one.cameras['a'].topic, QoSProfile(depth=100))
    time.sleep(0.3)
    one.send('a', 1)
    assert one.take() == {'a': 1}
    one.send('a', 2, publisher=other)  # its first: the same number
    assert one.take() == {'a': 2}
    assert one.counts('a') == (2, 0, 0)
    assert not one.cameras['a'].transport._seen()['missing'].any()


def test_subscriptions_come_and_go_while_a_thread_waits(bench):
    one = bench('a')
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(one.take()))
    waiting.start()
    for _ in range(20):
        one.receiver.unsubscribe()
        one.receiver.subscribe(NEWEST)
    deadline = time.monotonic() + 20
    while not taken and time.monotonic() < deadline:
        one.send('a', 7)
    waiting.join(5.0)
    assert taken == [{'a': 7}]


def test_no_executor_takes_the_images(bench):
    one = bench('a')
    executor = SingleThreadedExecutor(context=one.context)
    executor.add_node(one.node)
    one.send('a', 1)
    for _ in range(10):
        executor.spin_once(timeout_sec=0.02)
    assert one.take() == {'a': 1}
    executor.shutdown()
