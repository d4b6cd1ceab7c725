"""
The encodings of sensor_msgs/Image: how each buffer is laid out, and how it becomes RGB.

Their names are those of sensor_msgs/image_encodings.hpp, the colours those cv_bridge gives where
cv_bridge converts at all. Where it does not (it calls 8UC3 or 16UC1 "not a color format") this
module decides, as stated in ENCODINGS.
"""
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

__all__ = ['Encoding', 'ENCODINGS']

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
