"""Answers written as bytes are those that rclpy serialises."""

from cnn_perception.classifier import ClassScore
from cnn_perception.ros import raw_answer
from cnn_perception.ros.messages import classification
from cnn_perception.ros.raw_image import read
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

NAMES = ('', 'a', 'ab', 'abc', 'tiger cat', 'Brötchen', '猫', 'a longer name, with a comma')


def image(frame_id='camera', seconds=1700000001, nanoseconds=987654321):
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = seconds, nanoseconds
    return Image(header=header, height=1, width=1, encoding='mono8', step=1, data=b'\x07')


@pytest.mark.parametrize('form', ['name', 'index'])
@pytest.mark.parametrize('count', range(len(NAMES) + 1))
@pytest.mark.parametrize('frame_id', ['', 'a', 'ab', 'abc', 'abcd', 'камера/кадр'])
def test_bytes_are_those_of_the_message(frame_id, count, form):
    top = [ClassScore(index * 37, name, 1.0 / (index + 3))
           for index, name in enumerate(NAMES[:count])]
    sent = image(frame_id)
    written = raw_answer.write(top, read(serialize_message(sent), Image), form)
    message = classification(top, sent.header, form)
    assert deserialize_message(written, Classification) == message
    # What lies between members is nobody's value, and rclpy leaves there what was there before.
    assert len(written) == len(serialize_message(message))


@pytest.mark.parametrize('stamp', [(0, 0), (-2 ** 31, 0), (2 ** 31 - 1, 999999999)])
def test_stamps_are_kept_to_the_last_bit(stamp):
    seen = read(serialize_message(image('camera', *stamp)), Image)
    answer = deserialize_message(raw_answer.write([], seen), Classification)
    assert (answer.header.stamp.sec, answer.header.stamp.nanosec) == stamp
    assert answer.header == seen.header
