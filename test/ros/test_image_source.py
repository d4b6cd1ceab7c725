"""The image source in a process of its own."""

import signal
import struct
import time

from cnn_perception import photographs, sources
from cnn_perception.ros import image_source_node
from cnn_perception.ros.image_messages import to_rgb
from cnn_perception.sources import open_source, Picture, PictureSource
import cv2
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.rcutils_logger import RcutilsLogger
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_harness import BEST_EFFORT, RELIABLE
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header


@pytest.fixture
def frames(observer):
    return observer.listen(Image, 'image', RELIABLE)


def write(path, rgb):
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def test_photographs_arrive_unchanged_once_each(start, namespace, observer, frames):
    sent = observer.listen(Header, 'image_source/published')
    process = start('image_source', namespace, loops=1, rate=10.0, frame_id_is_name=True,
                    exit_when_done=True)
    assert observer.wait_for(lambda: process.process.poll() is not None)
    assert process.process.returncode == 0
    observer.spin(0.2)
    assert [frame.header.frame_id for frame in frames] == list(photographs.NAMES)
    assert [frame.header for frame in frames] == sent
    for frame in frames:
        np.testing.assert_array_equal(to_rgb(frame), photographs.photograph(frame.header.frame_id))
    stamps = [frame.header.stamp.sec * 10 ** 9 + frame.header.stamp.nanosec for frame in frames]
    assert np.median(np.diff(stamps)) == pytest.approx(1e8, rel=0.2)


def test_a_folder_is_played_in_order_and_looped(start, namespace, observer, frames, tmp_path):
    for index, value in enumerate((10, 200, 90)):
        write(tmp_path / f'{index}.png', np.full((6, 8, 3), value, np.uint8))
    (tmp_path / 'notes.txt').write_text('not a picture')
    start('image_source', namespace, source=tmp_path, rate=50.0)
    assert observer.wait_for(lambda: len(frames) >= 7)
    values = [int(to_rgb(frame)[0, 0, 0]) for frame in frames]
    assert values[:7] == [10, 200, 90, 10, 200, 90, 10]
    assert {frame.header.frame_id for frame in frames} == {'camera'}


def test_pictures_that_cannot_be_read_are_passed_over(start, namespace, observer, frames,
                                                      tmp_path):
    for name, value in (('a', 10), ('c', 90)):
        write(tmp_path / f'{name}.png', np.full((6, 8, 3), value, np.uint8))
    (tmp_path / 'b.png').write_text('not a picture')
    process = start('image_source', namespace, source=tmp_path, rate=50.0, loops=3,
                    exit_when_done=True)
    assert observer.wait_for(lambda: process.process.poll() is not None)
    assert process.process.returncode == 0
    assert [int(to_rgb(frame)[0, 0, 0]) for frame in frames] == [10, 90] * 3
    assert process.log.count('passed over') == 1
    assert "b.png' is not a picture" in process.log


def test_a_folder_of_which_nothing_can_be_read_is_refused(tmp_path):
    for name in ('a.png', 'b.png'):
        (tmp_path / name).write_text('not a picture')
    with pytest.raises(ValueError, match=r'none of the 2 pictures from .* can be read'):
        open_source(str(tmp_path))


def test_pictures_of_one_name_are_told_apart_by_what_they_end_in(tmp_path):
    for name in ('cat.png', 'cat.bmp', 'dog.png'):
        write(tmp_path / name, np.full((6, 8, 3), 9, np.uint8))
    assert [picture.name for picture in open_source(str(tmp_path)).pictures()] == [
        'cat.bmp', 'cat.png', 'dog']


def test_pictures_of_every_kind_are_found_in_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    names = ['A.PNG', 'b.jpeg', 'c.jpg', 'd.bmp', 'e.ppm', 'f.tif', 'g.tiff', 'h.webp']
    for name in names:
        write(tmp_path / name, np.full((6, 8, 3), 9, np.uint8))
    (tmp_path / 'i.pgm').write_bytes(b'P5 8 6 255\n' + bytes(48))
    (tmp_path / 'j.txt').touch()
    assert [picture.name for picture in open_source('~').pictures()] == [*'Abcdefghi']


@pytest.mark.parametrize(('suffix', 'cause'), [
    ('.png', 'cannot be read: PNG of .* is cut off'),
    ('.jpg', 'cannot be read: JPEG of .* is (damaged or )?cut off'), ('.bmp', 'or is cut off'),
    ('.webp', 'or is cut off')])
def test_files_that_were_cut_off_are_called_so(tmp_path, suffix, cause):
    path = tmp_path / f'half{suffix}'
    write(path, photographs.photograph('cat'))
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 20])
    with pytest.raises(ValueError, match=rf"half{suffix}' .*{cause}"):
        open_source(str(path))
    path.write_bytes(b'')
    with pytest.raises(ValueError, match='is empty'):
        open_source(str(path))


def test_a_header_that_announces_more_than_opencv_takes_costs_its_picture_alone(tmp_path, caplog):
    write(tmp_path / 'a.png', np.zeros((6, 8, 3), np.uint8))
    (tmp_path / 'b.bmp').write_bytes(b'BM' + struct.pack(
        '<IHHIIiiHHIIiiII', 70, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(20))
    assert [picture.name for picture in open_source(str(tmp_path)).pictures()] == ['a']
    assert 'b.bmp' in caplog.text
    with pytest.raises(ValueError, match='cannot be read by OpenCV'):
        open_source(str(tmp_path / 'b.bmp'))


def test_pictures_are_made_as_wide_as_asked_and_a_few_of_them_kept(tmp_path, monkeypatch):
    stripes = np.zeros((6, 8, 3), np.uint8)
    stripes[:, ::2] = 200, 100, 0
    for name in 'abc':
        write(tmp_path / f'{name}.png', stripes)
    monkeypatch.setattr(sources, 'KEPT', 2)
    for width, shape, colour in ((0, (6, 8, 3), (200, 100, 0)), (4, (3, 4, 3), (100, 50, 0)),
                                 (16, (12, 16, 3), None)):
        source = open_source(str(tmp_path), width)
        for picture in source.pictures():
            assert picture.rgb.shape == shape
            if colour is not None:  # what is made smaller is the mean of what was there
                assert picture.rgb[0, 0].tolist() == [*colour]
        assert len(source._kept) == 2


def test_a_file_that_was_mended_is_played(tmp_path, caplog):
    write(tmp_path / 'a.png', np.full((6, 8, 3), 9, np.uint8))
    (tmp_path / 'b.png').write_text('not yet')
    source = open_source(str(tmp_path))
    for _ in range(2):
        assert [picture.name for picture in source.pictures()] == ['a']
    assert caplog.text.count('passed over') == 1
    write(tmp_path / 'b.png', np.full((6, 8, 3), 9, np.uint8))
    assert [picture.name for picture in source.pictures()] == ['a', 'b']


def test_a_file_that_could_not_be_opened_is_tried_at_every_pass(tmp_path, caplog, monkeypatch):
    for name in ('a.png', 'b.png'):
        write(tmp_path / name, np.full((6, 8, 3), 9, np.uint8))
    away = {'b.png'}

    def read(path, dtype):
        if path.name in away:
            raise OSError('the disk is away')
        return np.frombuffer(path.read_bytes(), dtype)
    monkeypatch.setattr(np, 'fromfile', read)
    source = open_source(str(tmp_path))
    for _ in range(2):
        assert [picture.name for picture in source.pictures()] == ['a']
    assert caplog.text.count('passed over') == 1
    away.clear()
    assert [picture.name for picture in source.pictures()] == ['a', 'b']


def test_a_video_file(start, namespace, observer, frames, tmp_path):
    path = tmp_path / 'grey.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for value in (20, 120, 220):
        writer.write(np.full((48, 64, 3), (value // 2, value, value), np.uint8))  # B, G, R
    writer.release()
    start('image_source', namespace, source=path, rate=20.0, loops=2, width=32)
    assert observer.wait_for(lambda: len(frames) == 6)
    values = [to_rgb(frame).mean((0, 1)) for frame in frames]
    assert values == [pytest.approx((value, value, value // 2), abs=5)
                      for value in (20, 120, 220) * 2]
    assert {(frame.width, frame.height) for frame in frames} == {(32, 24)}


def test_compressed_topic(start, namespace, observer):
    frames = observer.listen(CompressedImage, 'image/compressed', RELIABLE)
    start('image_source', namespace, frame_id_is_name=True)
    assert observer.wait_for(lambda: frames)
    assert frames[0].header.frame_id == 'cat'
    original = photographs.photograph('cat').astype(int)
    assert abs(to_rgb(frames[0]).astype(int) - original).mean() < 3


def test_nothing_is_played_before_enough_subscribers(start, namespace, observer):
    sent = observer.listen(Header, 'image_source/published')
    process = start('image_source', namespace, loops=1, rate=20.0, wait_for_subscribers=2)
    process.wait_for_log('publishing 6 pictures')
    frames = observer.listen(Image, 'image', RELIABLE)
    observer.spin(1.0)
    assert not frames
    assert not sent
    observer.listen(Image, 'image', RELIABLE)
    assert observer.wait_for(lambda: len(sent) == len(photographs.NAMES))


def test_rate_changes_while_it_runs(start, namespace, observer, frames):
    start('image_source', namespace, rate=2.0)
    assert observer.wait_for(lambda: frames)
    assert observer.set_parameter('rate', 40.0, 'image_source').successful
    sent = observer.listen(Header, 'image_source/published')
    assert observer.wait_for(lambda: len(sent) > 20)
    stamps = [header.stamp.sec + 1e-9 * header.stamp.nanosec for header in sent]
    # By what was sent: a machine with other things to do receives fewer than 20 in 2 s.
    assert np.median(np.diff(stamps)) < 0.1
    assert not observer.set_parameter('rate', -1.0, 'image_source').successful


@pytest.mark.parametrize(('source', 'expected'), [
    ("'/nowhere'", 'does not exist'), ("'97'", 'cannot be opened'), ('97', 'cannot be opened')])
def test_a_source_that_is_not_there_ends_with_one_line(start, namespace, source, expected):
    process = start('image_source', namespace, source=source)
    assert process.process.wait(60) == 1
    assert expected in process.log
    assert 'Traceback' not in process.log


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(start, namespace, observer, frames, number):
    process = start('image_source', namespace)
    assert observer.wait_for(lambda: frames)
    assert process.stop(number) == 0
    assert 'Traceback' not in process.log


class Flaky(PictureSource):
    """A camera whose first try gives nothing."""

    live, description = True, 'flaky camera'
    tries = closed = 0

    def pictures(self):
        self.tries += 1
        while self.tries > 1:
            yield Picture('one', photographs.photograph('cat'))

    def close(self):
        self.closed += 1


@pytest.fixture
def own(monkeypatch):
    """Yield a source's node of this process, a function that spins it, and its camera."""
    camera, context = Flaky(), rclpy.Context()
    rclpy.init(args=[], context=context)
    monkeypatch.setattr(image_source_node, 'open_source', lambda *arguments: camera)
    node = image_source_node.ImageSourceNode(context=context, parameter_overrides=[
        Parameter('rate', value=100.0), Parameter('reliability', value='best_effort')])
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin(condition, seconds=20.0):
        deadline = time.monotonic() + seconds
        while not condition() and time.monotonic() < deadline:
            executor.spin_once(timeout_sec=0.05)
        return condition()
    yield node, spin, camera
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def test_a_camera_that_fails_is_tried_again_and_given_back_while_nobody_looks(
        own, monkeypatch):
    node, spin, camera = own
    frames, jpegs, sent, said = [], [], [], []
    monkeypatch.setattr(RcutilsLogger, 'error', lambda self, text, **options: said.append(text))
    node.create_subscription(Header, '~/published', sent.append, RELIABLE)
    [publisher] = node.get_publishers_info_by_topic(node.resolve_topic_name('image'))
    assert publisher.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    viewer = node.create_subscription(
        CompressedImage, 'image/compressed', jpegs.append, BEST_EFFORT)
    assert spin(lambda: len(jpegs) > 2)
    assert camera.tries == 2
    assert said == ['the source failed, trying again: flaky camera delivered no frame']
    node.set_parameters([Parameter('jpeg_quality', value=1)])
    size = len(jpegs[0].data)
    assert spin(lambda: len(jpegs[-1].data) < size / 3)
    assert camera.closed == 0
    node.destroy_subscription(viewer)
    assert spin(lambda: camera.closed)
    spin(lambda: False, 0.2)
    count = len(sent)
    spin(lambda: False, 0.2)
    assert (len(sent), camera.closed) == (count, 1)
    other = node.create_subscription(Image, 'image', frames.append, BEST_EFFORT)
    assert spin(lambda: frames)
    assert camera.tries == 3
    # Without a rate it still does not look all the time whether somebody subscribes.
    node.destroy_subscription(other)
    node.set_parameters([Parameter('rate', value=0.0)])
    spin(lambda: node._timer.timer_period_ns > 0)
    assert node._timer.timer_period_ns == 1e9 * image_source_node.IDLE_PERIOD
    node.create_subscription(Image, 'image', frames.append, BEST_EFFORT)
    assert spin(lambda: node._timer.timer_period_ns == 0)
    node.stop()
    assert camera.closed == 3
