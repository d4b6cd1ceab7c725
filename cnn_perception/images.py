"""
Image buffers as cameras send them -> (H, W, 3) uint8 RGB.

The encodings are those of sensor_msgs/image_encodings.hpp, the colours those cv_bridge gives where
cv_bridge converts at all. Where it does not (it calls 8UC3 or 16UC1 "not a color format") this
module decides, as stated in ENCODINGS. No ROS in here: `cnn_perception.ros.image_messages` takes
messages apart and calls this.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import difflib
from functools import partial
import operator
from typing import Any, Literal

from cnn_perception.image_files import ImageError, jpeg_size, PNG_SIGNATURE, png_size
import cv2
import numpy as np

__all__ = ['ENCODINGS', 'ImageError', 'decode', 'decode_compressed']

# Largest picture a JPEG or PNG header may announce: OpenCV's own limit of 2^30 pixels is 3 GB.
MAX_PIXELS = 1 << 27
# Deflate shrinks at most 1032 to 1 and a pixel is at least one bit, so no honest file holds more;
# a few bytes that announce a huge picture are refused before anything is allocated for it.
MAX_PIXELS_PER_BYTE = 8 * 1032
# Some drivers write FLT_MAX for "no return"; no reading in metres is anywhere near this.
FARTHEST = 1e9


@dataclass(frozen=True)
class Encoding:
    """
    One encoding: how its buffer is laid out, and how it becomes RGB.

    channels: values per pixel in a row of the buffer; dtype: uint8, uint16 or float32, in native
    byte order; convert: (H, W) or (H, W, channels) of dtype -> (H, W, 3) uint8 RGB; even_width,
    even_height: chroma is shared by two columns (rows); smallest: least width and height;
    chroma_rows: half as many rows again follow the image rows (nv12, nv21).
    """

    channels: int
    dtype: str
    convert: Callable[[np.ndarray], np.ndarray]
    even_width: bool = False
    even_height: bool = False
    smallest: int = 1
    chroma_rows: bool = False

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes one pixel takes in a row: `step` is at least width times this."""
        return self.channels * np.dtype(self.dtype).itemsize


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    """Scale uint16 by 255/65535 to the nearest uint8, as cv_bridge does."""
    return cv2.convertScaleAbs(pixels, alpha=255 / 65535)


def _colour(code: int, pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, code)


def _deep_colour(code: int, pixels: np.ndarray) -> np.ndarray:
    # In cv_bridge's order: a mosaic is interpolated at 16 bits and only then rounded.
    return _to_8_bit(cv2.cvtColor(pixels, code))


def _depth(depth: np.ndarray) -> np.ndarray:
    """Grey picture of one frame of depth: nearest 1, farthest 255, no reading 0."""
    seen = cv2.inRange(depth, -FARTHEST, FARTHEST)
    seen = np.multiply(seen, depth != 0)
    low, high, _, _ = cv2.minMaxLoc(depth, mask=seen)
    if high - low < 1e-30:
        grey = np.minimum(seen, 128)
    else:
        # Subtracting first keeps the precision of a narrow range far from zero.
        with np.errstate(invalid='ignore', over='ignore'):
            above = depth - depth.dtype.type(low)
        grey = cv2.convertScaleAbs(above, alpha=254 / (high - low), beta=1)
        grey = np.bitwise_and(grey, seen)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def _table() -> dict[str, Encoding]:
    table: dict[str, Encoding] = {}
    # rgb16 needs no change of order, and OpenCV has no code for "none".
    codes = {'rgb': (3, None), 'bgr': (3, cv2.COLOR_BGR2RGB), 'rgba': (4, cv2.COLOR_RGBA2RGB),
             'bgra': (4, cv2.COLOR_BGRA2RGB), 'mono': (1, cv2.COLOR_GRAY2RGB)}
    for name, (channels, code) in codes.items():
        shallow = np.asarray if code is None else partial(_colour, code)
        deep = _to_8_bit if code is None else partial(_deep_colour, code)
        table[name + '8'] = Encoding(channels, 'uint8', shallow)
        table[name + '16'] = Encoding(channels, 'uint16', deep)
    # OpenCV names a pattern by the second row's second and third pixel, ROS by the first 2 x 2.
    mosaics = {'rggb': cv2.COLOR_BayerBG2RGB, 'bggr': cv2.COLOR_BayerRG2RGB,
               'gbrg': cv2.COLOR_BayerGR2RGB, 'grbg': cv2.COLOR_BayerGB2RGB}
    for name, code in mosaics.items():
        # OpenCV returns black for a mosaic with no inner pixel, without a word.
        table[f'bayer_{name}8'] = Encoding(1, 'uint8', partial(_colour, code), smallest=3)
        table[f'bayer_{name}16'] = Encoding(1, 'uint16', partial(_deep_colour, code), smallest=3)
    for names, code in ((('uyvy', 'yuv422'), cv2.COLOR_YUV2RGB_UYVY),
                        (('yuyv', 'yuv422_yuy2'), cv2.COLOR_YUV2RGB_YUY2)):
        for name in names:
            table[name] = Encoding(2, 'uint8', partial(_colour, code), even_width=True)
    for name, code in (('nv12', cv2.COLOR_YUV2RGB_NV12), ('nv21', cv2.COLOR_YUV2RGB_NV21)):
        table[name] = Encoding(1, 'uint8', partial(_colour, code), even_width=True,
                               even_height=True, chroma_rows=True)
    table.update({'8UC1': table['mono8'], '8UC3': table['bgr8'], '8UC4': table['bgra8'],
                  '16UC1': Encoding(1, 'uint16', _depth), '32FC1': Encoding(1, 'float32', _depth)})
    return table


ENCODINGS: Mapping[str, Encoding] = _table()
"""
Every accepted encoding by name. What their names do not say:

8UC1, 8UC3, 8UC4: taken as mono8, bgr8, bgra8, the order OpenCV writes. Alpha is dropped.
16-bit colours, mono16, bayer_*16: scaled by 255/65535, rounded to nearest, as cv_bridge does.
bayer_*: bilinear interpolation by OpenCV; at least 3 x 3 pixels.
uyvy = yuv422, yuyv = yuv422_yuy2, nv12, nv21: BT.601, video range (16 to 235); width (and for nv12
and nv21 height) even.
16UC1, 32FC1: depth (REP 118) has no colour. Grey, stretched over each frame on its own:
round(1 + 254 (d - nearest) / (farthest - nearest)); 0, NaN, infinite or beyond 1e9 is no reading
and black; a frame with one single depth is 128.
"""


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
