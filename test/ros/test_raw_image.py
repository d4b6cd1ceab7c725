"""Images read where they lie are the images that rclpy deserialises."""

import struct

from cnn_perception.ros.image_messages import to_rgb
from cnn_perception.ros.raw_image import read, SerialisedImage, stamp_of
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

MEMBERS = ('header', 'height', 'width', 'encoding', 'is_bigendian', 'step')


def image(frame_id='camera', encoding='rgb8', size=(4, 5), step=None, **members):
    height, width = size
    step = 3 * width if step is None else step
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = 1700000001, 987654321
    pixels = np.random.default_rng(0).integers(0, 256, height * step, dtype=np.uint8)
    return Image(header=header, height=height, width=width, encoding=encoding, step=step,
                 data=pixels.tobytes(), **members)


def big_endian(message):
    """Write an Image in the other byte order, member by member."""
    parts = [b'\x00\x00\x00\x00']

    def put(form, *values, align=4):
        parts.append(b'\x00' * (-(sum(map(len, parts)) - 4) % align))
        parts.append(struct.pack('>' + form, *values))

    def put_text(text):
        data = text.encode() + b'\x00'
        put('I', len(data))
        parts.append(data)

    put('iI', message.header.stamp.sec, message.header.stamp.nanosec)
    put_text(message.header.frame_id)
    put('II', message.height, message.width)
    put_text(message.encoding)
    put('B', message.is_bigendian, align=1)
    put('II', message.step, len(message.data))
    parts.append(bytes(message.data))
    return b''.join(parts)


@pytest.mark.parametrize('write', [serialize_message, big_endian])
@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc', 'abcd', 'камера/кадр'])
@pytest.mark.parametrize('encoding', ['rgb8', 'mono8', 'bayer_rggb8', '', '8UC3'])
def test_every_member_is_the_one_that_rclpy_reads(write, frame_id, encoding):
    sent = image(frame_id, encoding, is_bigendian=1)
    data = write(sent)
    seen = read(data, Image)
    assert isinstance(seen, SerialisedImage)
    for member in MEMBERS:
        assert getattr(seen, member) == getattr(sent, member), member
    assert bytes(seen.data) == bytes(sent.data)
    assert deserialize_message(data, Image) == sent
    assert stamp_of(data) == 1700000001987654321


def test_the_pixels_are_not_copied():
    data = serialize_message(image())
    rgb = to_rgb(read(data, Image))
    assert rgb.shape == (4, 5, 3)
    assert np.shares_memory(rgb, np.frombuffer(data, np.uint8))


def test_stamps_before_the_epoch_and_images_without_pixels():
    empty = Image()
    empty.header.stamp.sec = -5
    assert read(serialize_message(empty), Image).header == empty.header
    assert stamp_of(serialize_message(empty)) == -5 * 10 ** 9
    assert stamp_of(b'') == 0


@pytest.mark.parametrize('message', [image(), CompressedImage(format='jpeg', data=b'abc')])
def test_what_is_cut_short_is_refused(message):
    data = serialize_message(message)
    for length in (4, 12, 20, len(data) - 1):
        with pytest.raises(ValueError, match=f'^{length} bytes are no {type(message).__name__} '):
            read(data[:length], type(message))


def test_compressed_images_are_left_to_rclpy():
    message = CompressedImage(header=Header(frame_id='camera'), format='jpeg', data=b'abc')
    assert read(serialize_message(message), CompressedImage) == message


def test_noise_never_does_more_than_raise():
    generator = np.random.default_rng(1)
    whole = bytearray(serialize_message(image()))
    for _ in range(500):
        data = bytearray(whole)
        for place in generator.integers(4, 60, 3):
            data[place] = generator.integers(0, 256)
        try:
            seen = read(bytes(data), Image)
        except ValueError:
            continue
        assert len(seen.data) <= len(whole)
