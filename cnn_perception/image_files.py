"""
The headers of JPEG and PNG files: is the file whole, and how large is the picture.

OpenCV decodes half a JPEG without a word, and believes whatever size a header announces. Both
are settled here before it sees the file.
"""
import zlib

__all__ = ['ImageError', 'PNG_SIGNATURE', 'jpeg_size', 'png_size']

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


class ImageError(ValueError):
    """An image that cannot be decoded; the message says what came and what is accepted."""


def jpeg_size(raw: bytes) -> tuple[int, int]:
    """Return (width, height) of a whole JPEG (ITU-T T.81, annex B): start of frame, scan, end."""
    position, size = 2, None
    while position + 4 <= len(raw) and raw[position] == 0xFF:
        marker = raw[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            # Fill bytes and the markers without a length.
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(raw[position + 2:position + 4], 'big')
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            size = raw[position + 5:position + 9]
        position += 2 + length
        if marker == 0xDA:
            break
        if marker == 0xD9 or length < 2:
            raise ImageError(f'JPEG of {len(raw)} bytes is damaged: marker {marker:02x} with '
                             f'length {length} before the picture begins')
    else:
        raise ImageError(f'JPEG of {len(raw)} bytes is damaged or cut off: its header ends at '
                         f'byte {position}, before the picture begins')
    # Only behind the header: a thumbnail inside it has an end marker of its own.
    if size is None or raw.find(b'\xff\xd9', position) < 0:
        missing = 'frame header (SOF)' if size is None else 'end marker (ff d9)'
        raise ImageError(f'JPEG of {len(raw)} bytes is cut off: it has no {missing}; a whole file '
                         'is expected')
    return int.from_bytes(size[2:], 'big'), int.from_bytes(size[:2], 'big')


def png_size(raw: bytes) -> tuple[int, int]:
    """Return (width, height) of a PNG (W3C PNG, clause 5) with every check sum right."""
    view, position, kind = memoryview(raw), len(PNG_SIGNATURE), b''
    while kind != b'IEND':
        length = int.from_bytes(view[position:position + 4], 'big')
        end = position + 12 + length
        if end > len(raw):
            raise ImageError(f'PNG of {len(raw)} bytes is cut off in the part that begins at byte '
                             f'{position}; a whole file is expected')
        kind = raw[position + 4:position + 8]
        if zlib.crc32(view[position + 4:end - 4]) != int.from_bytes(view[end - 4:end], 'big'):
            raise ImageError(f'PNG of {len(raw)} bytes is damaged: the check sum of its part '
                             f'{kind!r} at byte {position} is wrong')
        position = end
    if raw[12:16] != b'IHDR':
        raise ImageError(f'PNG of {len(raw)} bytes is damaged: it begins with {raw[12:16]!r}, '
                         "b'IHDR' is expected")
    return int.from_bytes(raw[16:20], 'big'), int.from_bytes(raw[20:24], 'big')
