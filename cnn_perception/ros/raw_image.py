"""
A sensor_msgs/Image read where it lies, in the bytes that the middleware handed over.

Deserialising copies the pixels twice more; everything else in the message is a few words. The
layout is XCDR1 (OMG DDS-XTypes 1.3, 7.4): four bytes that tell the byte order, then the members
in order, each aligned to its size, counted from behind those four bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
import struct

from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

__all__ = ['read', 'SerialisedImage', 'stamp_of']

ORDERS = {b'\x00\x00': '>', b'\x00\x01': '<'}
START = 4


@dataclass(frozen=True)
class SerialisedImage:
    """
    The members of a sensor_msgs/Image; data is a view of the serialised message.

    stamp: seconds and nanoseconds of the header.
    """

    stamp: tuple[int, int]
    frame_id: str
    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: memoryview

    @cached_property
    def header(self) -> Header:
        """Return the header as a message, which is made when it is first asked for."""
        return Header(stamp=Time(sec=self.stamp[0], nanosec=self.stamp[1]),
                      frame_id=self.frame_id)


def read(data: bytes, message_type: type) -> SerialisedImage | Image | CompressedImage:
    """
    Read a serialised message of type Image or CompressedImage.

    What is not plainly an Image in one of the two byte orders is left to rclpy. ValueError where
    that cannot read it either.
    """
    if message_type is Image:
        try:
            return view(data)
        except (KeyError, struct.error, ValueError):
            pass
    try:
        return deserialize_message(data, message_type)
    except (RuntimeError, MemoryError) as error:  # lengths may be anything
        raise ValueError(f'{len(data)} bytes are no {message_type.__name__} message: {error}'
                         ) from error


def view(data: bytes) -> SerialisedImage:
    """Read an Image; KeyError, struct.error or ValueError where it is none."""
    order = ORDERS[bytes(data[:2])]
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, START)
    frame_id, place = text(data, START + 8, order)
    place = aligned(place)
    height, width = struct.unpack_from(f'{order}II', data, place)
    encoding, place = text(data, place + 8, order)
    [is_bigendian] = struct.unpack_from('B', data, place)
    place = aligned(place + 1)
    step, length = struct.unpack_from(f'{order}II', data, place)
    pixels = memoryview(data)[place + 8:place + 8 + length]
    if len(pixels) != length:
        raise ValueError(f'{length} bytes of pixels are announced, {len(pixels)} are there')
    return SerialisedImage((seconds, nanoseconds), frame_id, height, width, encoding, is_bigendian,
                           step, pixels)


def text(data: bytes, place: int, order: str) -> tuple[str, int]:
    """Read a string; returns it and the place behind it."""
    place = aligned(place)
    [length] = struct.unpack_from(f'{order}I', data, place)
    end = place + 4 + length
    # A length of 0 or a missing NUL is another encoding, which rclpy may know.
    if length == 0 or end > len(data) or data[end - 1]:
        raise ValueError('no string')
    return str(data[place + 4:end - 1], 'utf-8'), end


def aligned(place: int) -> int:
    """Return the next place for a member of four bytes."""
    return place + (START - place) % 4


def stamp_of(data: bytes) -> int:
    """Read header.stamp, in ns, from a serialised message that begins with a std_msgs/Header."""
    if len(data) < START + 8:
        return 0
    order = ORDERS.get(bytes(data[:2]), '<')
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', data, START)
    return seconds * 10 ** 9 + nanoseconds
