"""
Image buffers as cameras send them -> (H, W, 3) uint8 RGB.

What encodings there are says `cnn_perception.image_encodings`. No ROS in here:
`cnn_perception.ros.image_messages` takes messages apart and calls this.
"""
import difflib
import operator
from typing import Any, Literal

from cnn_perception.image_encodings import Encoding, ENCODINGS
from cnn_perception.image_files import ImageError, jpeg_size, PNG_SIGNATURE, png_size
import cv2
import numpy as np

__all__ = ['ImageError', 'decode', 'decode_compressed']

# Largest picture a JPEG or PNG header may announce: OpenCV's own limit of 2^30 pixels is 3 GB.
MAX_PIXELS = 1 << 27
# Deflate shrinks at most 1032 to 1 and a pixel is at least one bit, so no honest file holds more;
# a few bytes that announce a huge picture are refused before anything is allocated for it.
MAX_PIXELS_PER_BYTE = 8 * 1032


def decode(data: Any, *, height: int, width: int, encoding: str, step: int,
           is_bigendian: bool = False) -> np.ndarray:
    """
    Turn the buffer of a sensor_msgs/Image into an RGB picture.

    data: bytes, bytearray, memoryview, array.array('B') or uint8 array of exactly height * step
    bytes (3/2 of that for nv12 and nv21: the chroma rows follow the image rows, with the same
    step). height, width: the picture's, in pixels. encoding: a name in ENCODINGS. step: bytes
    from one row to the next, padding included. is_bigendian: byte order of 16- and 32-bit values;
    without meaning for the others.

    Return (height, width, 3) uint8, channels R, G, B, C-contiguous. Treat it as read-only: for
    rgb8 without padding it is a view of `data` (and then only writable if `data` is).

    Raise ImageError for whatever does not fit together; nothing else.
    """
    spec = _encoding(encoding)
    flat = _bytes(data)
    height, width = _integer('height', height), _integer('width', width)
    step = _integer('step', step)
    _check_size(encoding, spec, height, width)
    row = width * spec.bytes_per_pixel
    if step < row:
        raise ImageError(
            f'{encoding} image of {width} x {height} with step {step}: a row takes {row} bytes '
            f'({width} pixels of {spec.bytes_per_pixel}); set step to that or more')
    rows = height * 3 // 2 if spec.chroma_rows else height
    if flat.size != rows * step:
        raise ImageError(
            f'{encoding} image of {width} x {height} with step {step}: the buffer holds '
            f'{flat.size} bytes, {rows * step} are expected ({rows} rows of {step})')
    pixels = flat.reshape(rows, step)[:, :row]
    if spec.dtype != 'uint8':
        order: Literal['<', '>'] = '>' if is_bigendian else '<'
        dtype = np.dtype(spec.dtype)
        # OpenCV reads native byte order at aligned addresses only; an odd step gives neither.
        pixels = np.require(pixels.view(dtype.newbyteorder(order)), dtype, 'A')
    if spec.channels > 1:
        pixels = pixels.reshape(rows, width, spec.channels)
    return _convert(spec, pixels, f'{encoding} image of {width} x {height}')


def decode_compressed(data: Any, format: str = '') -> np.ndarray:  # noqa: A002, RUF100
    """
    Turn the buffer of a sensor_msgs/CompressedImage into an RGB picture.

    data: a JPEG or PNG file as decode() takes buffers; which of the two, and whether grey,
    palette, 16-bit or with alpha (dropped), the file says itself. format: what the publisher wrote
    beside it, as compressed_image_transport does: 'jpeg', 'png', 'rgb8; jpeg compressed bgr8',
    '16UC1; png compressed '. It is needed only to read one-channel files: as depth for 16UC1, as
    a mosaic for bayer_*, as grey otherwise. The file's own colours are believed, and its EXIF
    orientation is ignored, as cv_bridge and image_transport do.

    Return (H, W, 3) uint8, channels R, G, B, C-contiguous, writable, never a view of `data`.

    Raise ImageError for anything that is not a whole JPEG or PNG: no end-of-image marker (half a
    picture would be classified as if it were one), a wrong PNG check sum, a header announcing
    more than MAX_PIXELS or more than the file can hold, compressedDepth. A JPEG damaged between
    start and end decodes with damaged blocks: the format carries no check sum.
    """
    flat = _bytes(data)
    if 'compresseddepth' in str(format).lower():
        raise ImageError(
            f'compressed image format {_short(format)}: compressedDepth is a PNG behind a header '
            'of its own; subscribe to the raw or the compressed transport instead')
    raw = flat.tobytes()
    if raw.startswith(b'\xff\xd8\xff'):
        kind, (width, height) = 'JPEG', jpeg_size(raw)
    elif raw.startswith(PNG_SIGNATURE):
        kind, (width, height) = 'PNG', png_size(raw)
    else:
        raise ImageError(
            f'compressed image (format {_short(format)}, {len(raw)} bytes) begins with '
            f'{raw[:8].hex(" ") or "nothing"}: neither a JPEG (ff d8 ff) nor a PNG '
            f'({PNG_SIGNATURE.hex(" ")}); have the publisher send one of those')
    what = f'{kind} of {width} x {height} in {len(raw)} bytes'
    most = min(MAX_PIXELS, len(raw) * MAX_PIXELS_PER_BYTE)
    if not 0 < width * height <= most:
        raise ImageError(f'{what}: 1 to {most} pixels are accepted')
    try:
        pixels = cv2.imdecode(flat, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f'{what} cannot be decoded: {error}') from error
    if pixels is None:
        raise ImageError(f'{what} is damaged: the header is whole, the picture is not')
    name = _plane_encoding(pixels, str(format))
    spec = _encoding(name)
    _check_size(name, spec, *pixels.shape[:2])
    return _convert(spec, pixels, what)


def _plane_encoding(pixels: np.ndarray, form: str) -> str:
    """Name the encoding of a decoded file, from itself and what image_transport wrote."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    source, _, codec = form.partition(';')
    name = codec.partition('compressed')[2].strip() or source.strip()
    said = ENCODINGS.get(name)
    if channels == 1 and said is not None and not said.chroma_rows and (
            said.channels, said.dtype) == (1, pixels.dtype.name):
        return name
    order = {1: 'mono', 3: 'bgr', 4: 'bgra'}.get(channels, f'{channels} channels of ')
    return f'{order}{pixels.dtype.itemsize * 8}'


def _convert(spec: Encoding, pixels: np.ndarray, what: str) -> np.ndarray:
    try:
        return np.ascontiguousarray(spec.convert(pixels))
    except cv2.error as error:
        raise ImageError(f'{what}: OpenCV cannot convert it: {error}') from error


def _encoding(name: str) -> Encoding:
    if isinstance(name, str) and name in ENCODINGS:
        return ENCODINGS[name]
    folded = {known.lower(): known for known in ENCODINGS}
    close = difflib.get_close_matches(str(name)[:40].lower(), folded, n=3)
    hint = f' (did you mean {" or ".join(folded[match] for match in close)}?)' if close else ''
    raise ImageError(f'image encoding {_short(name)} is not known{hint}; accepted are '
                     + ', '.join(sorted(ENCODINGS)))


def _bytes(data: Any) -> np.ndarray:
    """View any buffer as (n,) uint8, n > 0."""
    if isinstance(data, np.ndarray) and data.dtype != np.uint8:
        raise ImageError(f'image data is an array of {data.dtype}; uint8 is expected')
    try:
        # An array with gaps in memory has no flat view; frombuffer would refuse it.
        source = np.ascontiguousarray(data) if isinstance(data, np.ndarray) else data
        flat = np.frombuffer(source, np.uint8) if len(source) else np.empty(0, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise ImageError(f'image data is a {type(data).__name__}; bytes, bytearray, memoryview, '
                         f"array.array('B') or a uint8 array is expected ({error})") from error
    if not flat.size:
        raise ImageError('image data is empty; at least one pixel is expected')
    return flat


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise ImageError(f'image {name} is {_short(value)}; a whole number is expected') from error


def _check_size(encoding: str, spec: Encoding, height: int, width: int) -> None:
    if width < spec.smallest or height < spec.smallest:
        raise ImageError(f'{encoding} image of {width} x {height} (width x height): at least '
                         f'{spec.smallest} x {spec.smallest} is expected')
    if (spec.even_width and width % 2) or (spec.even_height and height % 2):
        both = 'width and height' if spec.even_height else 'width'
        raise ImageError(f'{encoding} image of {width} x {height} (width x height): an even '
                         f'{both} is expected, for two pixels share one colour; crop the image')


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
