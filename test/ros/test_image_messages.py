"""Messages to pictures and back, by the built-in decoder and, where installed, by cv_bridge."""
from array import array
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Time
from cnn_perception.images import ImageError
from cnn_perception.ros import image_messages
from cnn_perception.ros.image_messages import (
    BRIDGED, cv_bridge_status, from_rgb, to_compressed, to_rgb)
from image_cases import Case, CASES, photograph
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

CASES_BRIDGED = [case for case in CASES if case.encoding in BRIDGED]


def message_of(case: Case) -> Image:
    fields = case.fields()
    return Image(**{**fields, 'data': array('B', fields['data']),
                    'is_bigendian': int(fields['is_bigendian'])})


def header() -> Header:
    return Header(stamp=Time(sec=12, nanosec=345678901), frame_id='front_camera')


@pytest.fixture
def fresh_status():
    cv_bridge_status.cache_clear()
    yield
    cv_bridge_status.cache_clear()


@pytest.fixture
def cv_bridge():
    works, why = cv_bridge_status()
    if not works:
        pytest.skip(why)


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_messages, 'cv_bridge_status', lambda: (False, ''))


@pytest.mark.parametrize('case', CASES, ids=str)
def test_photograph_comes_back_by_the_built_in_decoder(case: Case, built_in: None) -> None:
    case.check(to_rgb(message_of(case)))


@pytest.mark.parametrize('case', CASES, ids=str)
def test_photograph_comes_back_by_whatever_is_installed(case: Case) -> None:
    case.check(to_rgb(message_of(case)))


@pytest.mark.parametrize('case', CASES_BRIDGED, ids=str)
def test_photograph_comes_back_by_cv_bridge(
        case: Case, cv_bridge: None, monkeypatch: pytest.MonkeyPatch) -> None:
    message = message_of(case)
    with monkeypatch.context() as patch:
        patch.setattr(image_messages, 'cv_bridge_status', lambda: (False, ''))
        expected = to_rgb(message)
    sheared = case.padding % image_messages.ENCODINGS[case.encoding].bytes_per_pixel
    if not (sheared or case.big):
        # Proof that it is not the built-in decoder that is tried a second time.
        monkeypatch.setattr(image_messages, 'decode', None)
    decoded = to_rgb(message)
    case.check(decoded)
    assert np.array_equal(decoded, expected)


@pytest.mark.parametrize('encoding', sorted(BRIDGED))
def test_bad_image_is_refused_the_same_way_with_cv_bridge(
        encoding: str, cv_bridge: None) -> None:
    pixel = image_messages.ENCODINGS[encoding].bytes_per_pixel
    good = {'height': 4, 'width': 4, 'step': 4 * pixel, 'data': array('B', bytes(16 * pixel))}
    to_rgb(Image(encoding=encoding, **good))
    for changes in ({'step': 3 * pixel}, {'width': 5}, {'height': 5}, {'height': 0},
                    {'data': array('B', bytes(16 * pixel + 1))}, {'data': array('B')}):
        with pytest.raises(ImageError):
            to_rgb(Image(encoding=encoding, **{**good, **changes}))


def test_rgb8_is_a_view_of_the_message(built_in: None) -> None:
    message = from_rgb(photograph(), header())
    assert np.shares_memory(to_rgb(message), np.frombuffer(message.data, np.uint8))


def test_picture_survives_the_wire_with_its_header() -> None:
    sent = from_rgb(photograph()[:, ::2], header())
    assert (sent.height, sent.width, sent.step, sent.encoding) == (160, 120, 360, 'rgb8')
    received = deserialize_message(serialize_message(sent), Image)
    assert received.header == header()
    assert np.array_equal(to_rgb(received), photograph()[:, ::2])


def test_header_is_the_one_given() -> None:
    given = header()
    assert from_rgb(photograph(), given).header is given
    assert to_compressed(photograph(), given).header is given


def test_compressed_picture_survives_the_wire() -> None:
    sent = to_compressed(photograph(), header(), quality=95)
    assert sent.format == 'rgb8; jpeg compressed bgr8'
    received = deserialize_message(serialize_message(sent), CompressedImage)
    assert received.header == header()
    assert np.abs(to_rgb(received).astype(int) - photograph()).mean() < 3
    assert len(to_compressed(photograph(), header(), quality=10).data) < len(sent.data) / 3


@pytest.mark.parametrize('picture', [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
    np.zeros((0, 4, 3), np.uint8), [[[0, 0, 0]]],
])
def test_what_is_not_a_picture_is_refused(picture: Any) -> None:
    with pytest.raises(ImageError, match=r'\(H, W, 3\)'):
        from_rgb(picture, header())
    with pytest.raises(ImageError, match=r'\(H, W, 3\)'):
        to_compressed(picture, header())


def test_what_does_not_fit_a_jpeg_is_refused() -> None:
    with pytest.raises(ImageError, match='quality is 0; 1 to 100'):
        to_compressed(photograph(), header(), quality=0)
    with pytest.raises(ImageError, match='65500'):
        to_compressed(np.zeros((1, 70000, 3), np.uint8), header())


def test_bad_messages() -> None:
    with pytest.raises(ImageError, match='empty'):
        to_rgb(Image(encoding='rgb8', height=1, width=1, step=3))
    with pytest.raises(ImageError, match='empty'):
        to_rgb(CompressedImage(format='jpeg'))
    with pytest.raises(TypeError, match='Header; sensor_msgs/Image'):
        to_rgb(header())


def test_without_cv_bridge(fresh_status: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_messages, 'find_spec', lambda name: None)
    assert cv_bridge_status() == (False, 'cv_bridge is not installed')
    message = from_rgb(photograph(), header())
    assert np.array_equal(to_rgb(message), photograph())


BROKEN = {
    'import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)': 'ended by signal 11',
    'raise ImportError("numpy.core.multiarray failed to import")': 'multiarray failed to import',
    'import sys\nsys.stderr.write("A module that was compiled using NumPy 1.x")\nsys.exit(1)':
        'built for NumPy 1, this is NumPy',
    'class CvBridge:\n    def imgmsg_to_cv2(self, image, encoding):\n'
    '        import numpy\n        return numpy.zeros((1, 2, 3))': 'converts wrongly',
    'class CvBridge:\n    pass': 'imgmsg_to_cv2',
    'import time\ntime.sleep(60)': 'timed out',
}


@pytest.mark.parametrize('source', BROKEN)
def test_broken_cv_bridge_is_not_used_and_says_why(
        source: str, tmp_path: Path, fresh_status: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'cv_bridge.py').write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    if 'sleep' in source:
        monkeypatch.setattr(image_messages, '_PROBE_SECONDS', 0.5)
    works, why = cv_bridge_status()
    assert not works
    assert BROKEN[source] in why
    assert np.array_equal(to_rgb(from_rgb(photograph(), header())), photograph())
