"""Buffers to RGB pictures: every encoding, exact small pictures, damaged and hostile ones."""
import array
from collections.abc import Callable
import io
import struct
from typing import Any
import warnings
import zlib

from cnn_perception.image_encodings import ENCODINGS
from cnn_perception.image_files import PNG_SIGNATURE
from cnn_perception.images import decode, decode_compressed, ImageError
import cv2
from image_cases import Case, CASES, mosaic, photograph
import numpy as np
from PIL import Image as PillowImage
import pytest


@pytest.mark.parametrize('case', CASES, ids=str)
def test_photograph_comes_back(case: Case) -> None:
    fields = case.fields()
    before = bytes(fields['data'])
    decoded = decode(**fields)
    case.check(decoded)
    assert decoded.flags.c_contiguous
    assert fields['data'] == before


def test_every_encoding_has_a_case() -> None:
    assert {case.encoding for case in CASES} == set(ENCODINGS)


EXACT = {
    'rgb8': (1, [10, 20, 30, 200, 100, 50], [(10, 20, 30), (200, 100, 50)]),
    'bgr8': (1, [30, 20, 10, 50, 100, 200], [(10, 20, 30), (200, 100, 50)]),
    '8UC3': (1, [30, 20, 10, 50, 100, 200], [(10, 20, 30), (200, 100, 50)]),
    'rgba8': (1, [10, 20, 30, 0, 200, 100, 50, 255], [(10, 20, 30), (200, 100, 50)]),
    'bgra8': (1, [30, 20, 10, 0, 50, 100, 200, 255], [(10, 20, 30), (200, 100, 50)]),
    '8UC4': (1, [30, 20, 10, 0, 50, 100, 200, 255], [(10, 20, 30), (200, 100, 50)]),
    'mono8': (1, [0, 255], [(0, 0, 0), (255, 255, 255)]),
    # 128 / 257 = 0.498, 129 / 257 = 0.502, 32768 / 257 = 127.502
    'mono16': (2, [128, 129, 32768, 65535], [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3]),
    'rgb16': (2, [0, 257, 65535, 128, 129, 32768], [(0, 1, 255), (0, 1, 128)]),
    'bgr16': (2, [65535, 257, 0, 32768, 129, 128], [(0, 1, 255), (0, 1, 128)]),
    # Video range: Y 16 is black, 235 white; U = V = 128 has no colour; Y 81 U 90 V 240 is red.
    'uyvy': (1, [128, 16, 128, 235], [(0, 0, 0), (255, 255, 255)]),
    'yuyv': (1, [81, 90, 81, 240], [(254, 0, 0), (254, 0, 0)]),
    # 1 + 254 * (1500 - 1000) / 1000 = 128; 0 is no reading.
    '16UC1': (2, [0, 1000, 1500, 2000], [(0,) * 3, (1,) * 3, (128,) * 3, (255,) * 3]),
}


@pytest.mark.parametrize('encoding', EXACT)
@pytest.mark.parametrize('order', '<>')
def test_exact_row(encoding: str, order: str) -> None:
    size, values, expected = EXACT[encoding]
    data = np.array(values).astype(f'{order}u{size}').tobytes()
    decoded = decode(data, height=1, width=len(expected), encoding=encoding, step=len(data),
                     is_bigendian=order == '>')
    assert decoded.tolist() == [[list(pixel) for pixel in expected]]


@pytest.mark.parametrize(('encoding', 'colour'), [('nv12', (90, 240)), ('nv21', (240, 90))])
def test_exact_red_square_planar(encoding: str, colour: tuple[int, int]) -> None:
    data = bytes([81, 81, 81, 81, *colour])
    decoded = decode(data, height=2, width=2, encoding=encoding, step=2)
    assert decoded.tolist() == [[[254, 0, 0]] * 2] * 2


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_mosaic_of_one_colour_is_that_colour(pattern: str) -> None:
    plain = np.full((6, 8, 3), (200, 100, 50), np.uint8)
    plane = mosaic(pattern)(plain)
    decoded = decode(plane, height=6, width=8, encoding=f'bayer_{pattern}8', step=8)
    assert np.array_equal(decoded, plain)


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
def test_mosaic_read_with_another_pattern_is_not_the_photograph(pattern: str) -> None:
    picture = photograph()
    height, width, _ = picture.shape
    data = mosaic(pattern)(picture).tobytes()
    error = {}
    for name in ('rggb', 'bggr', 'gbrg', 'grbg'):
        decoded = decode(data, height=height, width=width, encoding=f'bayer_{name}8', step=width)
        error[name] = np.abs(decoded.astype(int) - picture).mean()
    right = error.pop(pattern)
    assert right * 5 < min(error.values())


def test_mono16_rounds_every_value_like_cv_bridge() -> None:
    values = np.arange(65536, dtype='<u2')
    decoded = decode(values.tobytes(), height=256, width=256, encoding='mono16', step=512)
    assert np.array_equal(decoded[:, :, 0].ravel(), np.rint(values / 257.0))


def test_float_depth_marks_no_reading_black() -> None:
    depth = np.array([[np.nan, np.inf, -np.inf, 0, np.finfo(np.float32).max, 1, 1.5, 2]], '<f4')
    decoded = decode(depth.tobytes(), height=1, width=8, encoding='32FC1', step=32)
    assert decoded[0, :, 1].tolist() == [0, 0, 0, 0, 0, 1, 128, 255]


@pytest.mark.parametrize(('values', 'expected'), [
    ([0, 0, 0, 0], [0, 0, 0, 0]), ([0, 700, 700, 0], [0, 128, 128, 0]),
    ([65535, 65534, 0, 65535], [255, 1, 0, 255]),
])
def test_depth_of_a_flat_or_empty_frame(values: list[int], expected: list[int]) -> None:
    for encoding, kind in (('16UC1', '<u2'), ('32FC1', '<f4')):
        data = np.array(values, kind).tobytes()
        decoded = decode(data, height=4, width=1, encoding=encoding, step=len(data) // 4)
        assert decoded[:, 0, 2].tolist() == expected


def test_depth_below_zero_is_depth() -> None:
    depth = np.array([[-1.0, 0.5, 0.0, 2.0]], '<f4')
    decoded = decode(depth.tobytes(), height=1, width=4, encoding='32FC1', step=16)
    assert decoded[0, :, 0].tolist() == [1, 128, 0, 255]


def test_depth_of_tiny_and_huge_ranges_is_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for values in ([1e-45, 2e-45], [-1e9, 1e9], [np.nan, np.nan], [-3.4e38, 3.4e38]):
            data = np.array(values, '<f4').tobytes()
            decode(data, height=1, width=2, encoding='32FC1', step=8)


def test_rgb8_without_padding_is_a_view() -> None:
    data = array.array('B', bytes(range(24)))
    decoded = decode(data, height=2, width=4, encoding='rgb8', step=12)
    assert np.shares_memory(decoded, np.frombuffer(data, np.uint8))
    assert decoded.flags.writeable
    assert not decode(bytes(24), height=2, width=4, encoding='rgb8', step=12).flags.writeable


def test_every_kind_of_buffer() -> None:
    plain = bytes(range(12))
    gaps = np.zeros((2, 12), np.uint8)
    gaps[:, ::2] = np.frombuffer(plain, np.uint8).reshape(2, 6)
    shifted = memoryview(b'x' + plain)[1:]
    for data in (plain, bytearray(plain), memoryview(plain), array.array('B', plain), shifted,
                 np.frombuffer(plain, np.uint8), gaps[:, ::2]):
        decoded = decode(data, height=2, width=2, encoding='rgb8', step=6)
        assert decoded.tobytes() == plain
    deep = decode(shifted, height=1, width=6, encoding='mono16', step=12)
    assert deep.shape == (1, 6, 3)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    'unknown': ({'encoding': 'rbg8'}, "'rbg8' is not known .*rgb8.*accepted are .*yuyv"),
    'case': ({'encoding': '8uc3'}, 'did you mean 8UC3'),
    'no name': ({'encoding': ''}, "'' is not known; accepted are"),
    'no text': ({'encoding': None}, 'None is not known'),
    'long name': ({'encoding': 'x' * 100000}, r'xxx\.\.\. is not known'),
    'short': ({'data': bytes(23)}, 'holds 23 bytes, 24 are expected'),
    'long': ({'data': bytes(25)}, 'holds 25 bytes, 24 are expected'),
    'empty': ({'data': b''}, 'empty'),
    'step': ({'step': 11}, 'step 11: a row takes 12 bytes'),
    'no step': ({'step': 0}, 'step 0: a row takes 12 bytes'),
    'no height': ({'height': 0}, 'at least 1 x 1'),
    'no width': ({'width': 0}, 'at least 1 x 1'),
    'negative': ({'height': -2, 'step': -12}, 'at least 1 x 1'),
    'fraction': ({'width': 4.0}, 'width is 4.0; a whole number'),
    'absurd': ({'height': 100000, 'width': 100000, 'step': 300000}, 'holds 24 bytes'),
    'absurd row': ({'width': 2 ** 40, 'step': 3 * 2 ** 40}, 'holds 24 bytes'),
    'list': ({'data': [0] * 24}, 'is a list; bytes'),
    'text': ({'data': 'x' * 24}, 'is a str; bytes'),
    'nothing': ({'data': None}, 'is a NoneType; bytes'),
    'floats': ({'data': np.zeros(24)}, 'array of float64; uint8'),
    'odd uyvy': ({'encoding': 'uyvy', 'width': 3}, 'even width is'),
    'odd nv12': ({'encoding': 'nv12', 'height': 3}, 'even width and height'),
    'nv12 without colour': ({'encoding': 'nv12'}, '24 bytes, 36 are expected .3 rows of 12'),
    'tiny mosaic': ({'encoding': 'bayer_rggb8'}, 'at least 3 x 3'),
    'tiny deep mosaic': ({'encoding': 'bayer_rggb16'}, 'at least 3 x 3'),
}


@pytest.mark.parametrize('what', BAD)
def test_bad_image_is_refused_with_a_reason(what: str) -> None:
    changes, reason = BAD[what]
    image: dict[str, Any] = {'data': bytes(24), 'height': 2, 'width': 4, 'encoding': 'rgb8',
                             'step': 12}
    with pytest.raises(ImageError, match=reason):
        decode(**{**image, **changes})


def jpeg() -> bytes:
    return cv2.imencode('.jpg', photograph()[:, :, ::-1])[1].tobytes()


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode('.png', picture)[1].tobytes()


def pillow(picture: PillowImage.Image, kind: str = 'PNG', **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


@pytest.mark.parametrize('form', ['', 'jpeg', 'jpg', 'png', 'rgb8; jpeg compressed bgr8',
                                  'bgr8; jpeg compressed bgr8', 'bayer_rggb8; jpeg compressed '])
def test_jpeg_in_colour_whatever_the_format_says(form: str) -> None:
    decoded = decode_compressed(jpeg(), form)
    assert np.abs(decoded.astype(int) - photograph()).mean() < 3
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable


def test_grey_jpeg() -> None:
    grey = photograph()[:, :, 1]
    for form in ('', 'mono8; jpeg compressed mono8', 'bayer_rggb8; jpeg compressed mono8'):
        decoded = decode_compressed(cv2.imencode('.jpg', grey)[1], form)
        assert np.abs(decoded.astype(int) - grey[:, :, None]).mean() < 3


def test_png_is_exact_in_every_colour_type() -> None:
    picture = photograph()
    whole = PillowImage.fromarray(picture)
    bgr = picture[:, :, ::-1]
    palette = whole.quantize(64)
    expected = {
        'colour': (pillow(whole), picture),
        'alpha': (pillow(PillowImage.fromarray(np.dstack([picture, picture[:, :, 0]]))), picture),
        'palette': (pillow(palette), np.asarray(palette.convert('RGB'))),
        'grey': (png(picture[:, :, 1]), picture[:, :, 1:2]),
        'grey and alpha': (pillow(whole.convert('LA')), np.asarray(whole.convert('L'))[..., None]),
        'black and white': (pillow(whole.convert('1')),
                            np.asarray(whole.convert('1'))[..., None] * 255),
        'grey 16 bit': (png(picture[:, :, 1].astype(np.uint16) * 257), picture[:, :, 1:2]),
        'colour 16 bit': (png(bgr.astype(np.uint16) * 257), picture),
    }
    for name, (file, pixels) in expected.items():
        decoded = decode_compressed(file, 'rgb8; png compressed bgr8')
        assert np.array_equal(decoded, np.broadcast_to(pixels, picture.shape)), name


def test_what_image_transport_puts_into_a_grey_png() -> None:
    picture = photograph()
    height, width, _ = picture.shape
    depth = np.where(picture[:, :, 0] < 60, 0, 500 + picture[:, :, 1].astype(np.uint16))
    plane = mosaic('gbrg')(picture)
    for name, pixels in (('16UC1', depth), ('mono16', depth), ('bayer_gbrg8', plane),
                         ('mono8', plane), ('8UC1', plane)):
        raw = pixels.astype(pixels.dtype.newbyteorder('<')).tobytes()
        expected = decode(raw, height=height, width=width, encoding=name,
                          step=width * pixels.itemsize)
        assert np.array_equal(decode_compressed(png(pixels), f'{name}; png compressed '), expected)
    # What the file itself cannot be is not believed.
    for name in ('nv21', '16UC1', 'bayer_gbrg16'):
        grey = decode_compressed(png(plane), f'{name}; png compressed ')
        assert np.array_equal(grey, np.repeat(plane[:, :, None], 3, axis=2))


def test_exif_orientation_is_ignored_as_ros_does() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    file = pillow(PillowImage.fromarray(photograph()), 'JPEG', exif=exif)
    assert decode_compressed(file).shape == photograph().shape


def test_plain_pictures_compress_far_but_not_beyond_the_limit() -> None:
    for mode, kind in (('1', 'PNG'), ('L', 'PNG'), ('L', 'JPEG')):
        file = pillow(PillowImage.new(mode, (4096, 4096)), kind, optimize=True,
                      **({'progressive': True} if kind == 'JPEG' else {}))
        assert not decode_compressed(file).any()


def test_trailing_bytes_and_thumbnails_do_not_hide_the_end() -> None:
    file = jpeg()
    assert decode_compressed(file + bytes(100)).shape == photograph().shape
    # An application segment with an end marker in it, as an EXIF thumbnail has.
    thumbnail = b'\xff\xe1\x00\x06\xff\xd9\xff\xd9'
    with_thumbnail = file[:2] + thumbnail + file[2:]
    assert decode_compressed(with_thumbnail).shape == photograph().shape
    with pytest.raises(ImageError, match='no end marker'):
        decode_compressed(with_thumbnail[:-2])


def header(width: int, height: int) -> bytes:
    fields = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return PNG_SIGNATURE + chunk(b'IHDR', fields)


def huge_jpeg() -> bytes:
    file = jpeg()
    at = file.index(b'\xff\xc0') + 5
    return file[:at] + b'\xff\xdc\xff\xdc' + file[at + 4:]


BAD_FILES: dict[str, tuple[Any, str, str]] = {
    'empty': (b'', '', 'empty'),
    'neither': (b'GIF89a..', '', '47 49 46 .*neither a JPEG'),
    'compressedDepth': (bytes(12), '16UC1; compressedDepth png', 'compressedDepth.*raw'),
    'half a jpeg': (jpeg()[:-1000], '', 'JPEG .*cut off: it has no end marker'),
    'jpeg header': (jpeg()[:100], '', 'JPEG .*cut off: its header ends'),
    'no frame': (b'\xff\xd8\xff\xda\x00\x02\x00\xff\xd9', '', 'no frame header'),
    'end first': (b'\xff\xd8\xff\xd9\x00\x02\x00\xff\xd9', '', 'marker d9'),
    'huge jpeg': (huge_jpeg(), '', '65500 x 65500 .*pixels are accepted'),
    'half a png': (png(photograph())[:-1000], '', 'PNG .*cut off'),
    'huge png': (header(100000, 100000) + chunk(b'IEND', b''), '', 'pixels are accepted'),
    'large png': (header(16384, 8193) + chunk(b'tEXt', bytes(20000)) + chunk(b'IEND', b''), '',
                  'PNG of 16384 x 8193 .*: 1 to 134217728 pixels are accepted'),
    'promising png': (header(8000, 8000) + chunk(b'IEND', b''), '', 'pixels are accepted'),
    'no pixels': (header(0, 5) + chunk(b'IEND', b''), '', 'pixels are accepted'),
    'no picture': (header(16, 16) + chunk(b'IEND', b''), '', 'PNG of 16 x 16 .*is damaged'),
    'tiny mosaic': (png(np.zeros((2, 4), np.uint8)), 'bayer_rggb8; png compressed ',
                    'at least 3 x 3'),
    'no header': (PNG_SIGNATURE + chunk(b'IEND', b''), '', 'begins with'),
    'list': ([137, 80], '', 'is a list; bytes'),
}


@pytest.mark.parametrize('what', BAD_FILES)
def test_bad_file_is_refused_with_a_reason(what: str) -> None:
    data, form, reason = BAD_FILES[what]
    with pytest.raises(ImageError, match=reason):
        decode_compressed(data, form)


@pytest.mark.parametrize('what', ['huge jpeg', 'huge png', 'large png', 'promising png'])
def test_absurd_header_never_reaches_opencv(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, 'imdecode', None)
    with pytest.raises(ImageError):
        decode_compressed(BAD_FILES[what][0])


def test_one_wrong_bit_in_a_png_is_found() -> None:
    file = bytearray(png(photograph()))
    for position in range(8, len(file), 997):
        file[position] ^= 1
        # Found here, not by OpenCV, which prints to standard error.
        with pytest.raises(ImageError, match=r'PNG of \d+ bytes is (damaged|cut off)'):
            decode_compressed(file)
        file[position] ^= 1


def only_image_error(function: Callable[..., np.ndarray], *arguments: Any, **fields: Any) -> bool:
    """Call function; tell whether it returned a picture."""
    try:
        picture = function(*arguments, **fields)
    except ImageError as error:
        assert len(str(error)) < 1000
        return False
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert picture.flags.c_contiguous
    return True


def test_random_buffers_raise_nothing_but_image_error() -> None:
    random = np.random.default_rng(20240229)
    names = [*ENCODINGS, 'rgb', '', 'nv24', '64FC1']
    decoded = 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(1500):
            name = names[random.integers(len(names))]
            height, width = (int(value) for value in random.integers(-1, 20, 2))
            spec = ENCODINGS.get(name)
            pixel = spec.bytes_per_pixel if spec else 1
            step = int(width * pixel + random.choice([0, 0, 1, 3, 8, -1, 2 ** 31]))
            size = height * step * (3 if spec and spec.chroma_rows else 2) // 2
            size = min(max(0, size + int(random.choice([0, 0, 0, 1, -1]))), 4096)
            decoded += only_image_error(
                decode, random.integers(0, 256, size, np.uint8).tobytes(), height=height,
                width=width, encoding=name, step=step, is_bigendian=bool(random.integers(2)))
    assert decoded > 300


def test_damaged_files_raise_nothing_but_image_error() -> None:
    random = np.random.default_rng(20240301)
    small = photograph()[::4, ::4]
    files = [cv2.imencode('.jpg', small)[1].tobytes(), png(small), png(small[:, :, 0]),
             pillow(PillowImage.fromarray(small).quantize(16)),
             pillow(PillowImage.fromarray(small), 'JPEG', progressive=True)]
    forms = ['', 'rgb8; jpeg compressed bgr8', '16UC1; png compressed ', 'bayer_rggb8; png', ';;']
    for number in range(1000):
        file = bytearray(files[number % len(files)])
        for _ in range(random.integers(1, 6)):
            file[random.integers(len(file))] = random.integers(256)
        if number % 3 == 0:
            del file[random.integers(len(file)):]
        if number % 3 == 1 and file.startswith(PNG_SIGNATURE):
            file = mended(bytes(file))
        only_image_error(decode_compressed, file, forms[random.integers(len(forms))])


def mended(file: bytes) -> bytearray:
    """Write right check sums over a damaged PNG, so that the damage reaches the decoder."""
    result, position = bytearray(file[:8]), 8
    while position + 12 <= len(file):
        length = int.from_bytes(file[position:position + 4], 'big')
        result += chunk(file[position + 4:position + 8],
                        file[position + 8:position + 8 + length][:len(file)])
        position += 12 + length
    return result
