"""
A vision_msgs/Classification written as the bytes that the middleware sends.

For a message rclpy makes an object for each class, then one of C's for each of those, and the
middleware makes bytes of them: between the end of the forward pass and the answer. The layout is
the one in which images are read, XCDR1 (OMG DDS-XTypes 1.3, 7.4), here with the low byte first.
"""

from __future__ import annotations

from collections.abc import Sequence
import struct

from cnn_perception.classifier import ClassScore
from cnn_perception.ros.raw_image import SerialisedImage

__all__ = ['write']

BEGIN = b'\x00\x01\x00\x00'


def write(top: Sequence[ClassScore], image: SerialisedImage, class_id_format: str = 'name'
          ) -> bytes:
    """Write what `messages.classification` makes, with the image's own header."""
    parts = bytearray(BEGIN)
    parts += struct.pack('<iI', *image.stamp)
    put_text(parts, image.frame_id)
    parts += struct.pack('<I', len(top))
    for entry in top:
        put_text(parts, entry.name if class_id_format == 'name' else str(entry.index))
        # Aligned to its size, counted from behind the beginning.
        parts += bytes(-(len(parts) - len(BEGIN)) % 8)
        parts += struct.pack('<d', entry.score)
    return bytes(parts)


def put_text(parts: bytearray, text: str) -> None:
    """Add a string: its length, with the NUL at its end, then aligned to the next four bytes."""
    data = text.encode()
    parts += struct.pack('<I', len(data) + 1)
    parts += data
    parts += bytes(1 + -(len(data) + 1) % 4)
