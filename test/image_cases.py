"""
One table of image buffers and the pictures they hold, for every decoder the package can use.

The buffers are written out with NumPy from a photograph, from the definitions of the formats and
without OpenCV, so that a decoder is never compared with itself.
"""
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import skimage.data

__all__ = ['CASES', 'Case', 'mosaic', 'photograph']


def photograph() -> np.ndarray:
    """Return the head of a cat: (160, 240, 3) uint8 RGB; green-grey eyes, red nose, all tones."""
    return np.ascontiguousarray(skimage.data.chelsea()[40:200, 80:320])


@dataclass(frozen=True)
class Case:
    """
    One way to send the photograph.

    rows: picture -> (R, n) of any type, the buffer's rows without padding; padding: bytes behind
    each; expected: picture -> the picture a decoder has to return; worst, mean: largest and mean
    absolute difference allowed (formats that throw colour away cannot be exact).
    """

    encoding: str
    rows: Callable[[np.ndarray], np.ndarray]
    expected: Callable[[np.ndarray], np.ndarray] = lambda picture: picture
    padding: int = 0
    big: bool = False
    worst: int = 0
    mean: float = 255.0

    def __str__(self) -> str:
        order = '-big' if self.big else ''
        return f'{self.encoding}{order}-padding{self.padding}'

    def fields(self) -> dict[str, Any]:
        """Return the fields of a sensor_msgs/Image, data as bytes."""
        picture = photograph()
        rows = np.ascontiguousarray(self.rows(picture))
        if self.big:
            rows = rows.astype(rows.dtype.newbyteorder('>'))
        flat = rows.view(np.uint8)
        padded = np.pad(flat, ((0, 0), (0, self.padding)), constant_values=0xA5)
        return {'height': picture.shape[0], 'width': picture.shape[1], 'encoding': self.encoding,
                'is_bigendian': self.big, 'step': padded.shape[1], 'data': padded.tobytes()}

    def check(self, decoded: np.ndarray) -> None:
        """Fail where `decoded` is not the expected picture."""
        expected = self.expected(photograph())
        assert decoded.dtype == np.uint8
        assert decoded.shape == expected.shape
        error = np.abs(decoded.astype(int) - expected)
        assert error.max() <= self.worst
        assert error.mean() <= self.mean


def _flat(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(len(picture), -1)


def _bgr(picture: np.ndarray) -> np.ndarray:
    return _flat(picture[:, :, ::-1])


def _with_alpha(picture: np.ndarray, order: slice) -> np.ndarray:
    # An alpha that follows the picture would show if it were multiplied in or mistaken.
    return _flat(np.dstack([picture[:, :, order], 255 - picture[:, :, 0]]))


def _rgba(picture: np.ndarray) -> np.ndarray:
    return _with_alpha(picture, slice(None))


def _bgra(picture: np.ndarray) -> np.ndarray:
    return _with_alpha(picture, slice(None, None, -1))


def _green(picture: np.ndarray) -> np.ndarray:
    return picture[:, :, 1]


def _grey(picture: np.ndarray) -> np.ndarray:
    return np.repeat(picture[:, :, 1:2], 3, axis=2)


def _deep(rows: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Give the same rows at 16 bits: anything within half a step has to round back."""
    def deep(picture: np.ndarray) -> np.ndarray:
        exact = rows(picture).astype(int) * 257
        jitter = np.random.default_rng(7).integers(-128, 129, exact.shape)
        return np.clip(exact + jitter, 0, 65535).astype(np.uint16)
    return deep


def mosaic(pattern: str) -> Callable[[np.ndarray], np.ndarray]:
    """Keep of each pixel the one colour that a sensor with this 2 x 2 pattern sees."""
    def sensor(picture: np.ndarray) -> np.ndarray:
        plane = np.empty(picture.shape[:2], np.uint8)
        for position, colour in enumerate(pattern):
            row, column = divmod(position, 2)
            plane[row::2, column::2] = picture[row::2, column::2, 'rgb'.index(colour)]
        return plane
    return sensor


def _yuv(picture: np.ndarray) -> np.ndarray:
    """Return BT.601 in video range: (H, W, 3) float, Y 16 to 235, U and V 16 to 240."""
    red, green, blue = np.moveaxis(picture / 255.0, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.dstack([16 + 219 * luma, 128 + 112 / 0.886 * (blue - luma),
                      128 + 112 / 0.701 * (red - luma)])


def _packed(order: str) -> Callable[[np.ndarray], np.ndarray]:
    """Two pixels in four bytes, for instance 'uyvy'; the two share the mean of their colour."""
    def packed(picture: np.ndarray) -> np.ndarray:
        yuv = _yuv(picture)
        pairs = yuv.reshape(len(yuv), -1, 2, 3)
        colour = pairs.mean(axis=2)
        luma = [pairs[:, :, 0, 0], pairs[:, :, 1, 0]]
        parts = [luma.pop(0) if part == 'y' else colour[:, :, 'yuv'.index(part)]
                 for part in order]
        return _flat(np.rint(np.stack(parts, axis=2)).astype(np.uint8))
    return packed


def _planar(order: str) -> Callable[[np.ndarray], np.ndarray]:
    """All luma, then rows of colour ('uv' or 'vu') of which each serves 2 x 2 pixels."""
    def planar(picture: np.ndarray) -> np.ndarray:
        yuv = _yuv(picture)
        height, width, _ = yuv.shape
        colour = yuv.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
        chroma = _flat(np.stack([colour[:, :, 'yuv'.index(part)] for part in order], axis=2))
        return np.rint(np.vstack([yuv[:, :, 0], chroma])).astype(np.uint8)
    return planar


def _millimetres(picture: np.ndarray) -> np.ndarray:
    """Give a frame of depth, 0.5 to 5.6 m, with holes (0) where the red channel is dark."""
    depth = 500 + 20 * picture[:, :, 1].astype(np.uint16)
    return np.where(picture[:, :, 0] < 60, 0, depth).astype(np.uint16)


def _metres(picture: np.ndarray) -> np.ndarray:
    depth = _millimetres(picture).astype(np.float32) / 1000
    depth[depth == 0] = np.nan
    depth[5, 5:9] = np.inf, -np.inf, np.finfo(np.float32).max, 0
    return depth


def _stretched(depth: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def stretched(picture: np.ndarray) -> np.ndarray:
        frame = depth(picture).astype(np.float64)
        seen = np.isfinite(frame) & (frame != 0) & (np.abs(frame) <= 1e9)
        low, high = frame[seen].min(), frame[seen].max()
        grey = np.zeros(frame.shape)
        grey[seen] = np.rint(1 + 254 * (frame[seen] - low) / (high - low))
        return np.repeat(grey[:, :, None], 3, axis=2).astype(int)
    return stretched


def _cases() -> list[Case]:
    cases = []
    eight = {'rgb8': _flat, 'bgr8': _bgr, 'rgba8': _rgba, 'bgra8': _bgra,
             '8UC3': _bgr, '8UC4': _bgra}
    for name, rows in eight.items():
        # 12 is and 7 is not a multiple of every pixel; byte order means nothing here.
        cases += [Case(name, rows, padding=padding) for padding in (0, 12, 7)]
        cases += [Case(name, rows, big=True)]
    for name in ('mono8', '8UC1'):
        cases += [Case(name, _green, _grey, padding=padding) for padding in (0, 16, 7)]
    sixteen = {'rgb16': _flat, 'bgr16': _bgr, 'rgba16': _rgba, 'bgra16': _bgra}
    for big in (False, True):
        for padding in (0, 24, 7):
            order: dict[str, Any] = {'big': big, 'padding': padding}
            cases += [Case(name, _deep(rows), **order) for name, rows in sixteen.items()]
            cases += [Case('mono16', _deep(_green), _grey, **order),
                      Case('16UC1', _millimetres, _stretched(_millimetres), worst=1, **order),
                      Case('32FC1', _metres, _stretched(_metres), worst=1, **order)]
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        for padding in (0, 16, 7):
            cases += [Case(f'bayer_{pattern}8', mosaic(pattern), padding=padding, worst=150,
                           mean=5.0)]
        cases += [Case(f'bayer_{pattern}16', _deep(mosaic(pattern)), big=big, worst=150, mean=5.0)
                  for big in (False, True)]
    packed = {'uyvy': 'uyvy', 'yuv422': 'uyvy', 'yuyv': 'yuyv', 'yuv422_yuy2': 'yuyv'}
    for name, order_of in packed.items():
        cases += [Case(name, _packed(order_of), padding=padding, worst=20, mean=1.5)
                  for padding in (0, 16, 7)]
    for name, order_of in (('nv12', 'uv'), ('nv21', 'vu')):
        cases += [Case(name, _planar(order_of), padding=padding, worst=40, mean=2.0)
                  for padding in (0, 16, 7)]
    return cases


CASES = _cases()
