"""
sensor_msgs/Image and CompressedImage <-> (H, W, 3) uint8 RGB arrays.

`cnn_perception.images` does the decoding. cv_bridge does it instead where it is installed, works,
and gives the same picture; the encodings that holds for are listed in BRIDGED.
"""
from array import array as byte_array
from functools import cache
from importlib import metadata
from importlib.util import find_spec
import os
import subprocess
import sys
from typing import Any

from cnn_perception.image_encodings import ENCODINGS
from cnn_perception.images import decode, decode_compressed, ImageError
from cnn_perception.ros.raw_image import SerialisedImage
import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

__all__ = ['BRIDGED', 'cv_bridge_status', 'from_rgb', 'to_compressed', 'to_rgb']

# cv_bridge calls 8UC*, 16UC1 and 32FC1 "not a color format", and has no code for nv12, nv21 and
# (before 2024) uyvy and yuyv.
BRIDGED = frozenset(
    [f'{order}{bits}' for order in ('rgb', 'bgr', 'rgba', 'bgra', 'mono') for bits in (8, 16)]
    + [f'bayer_{tile}{bits}' for tile in ('rggb', 'bggr', 'gbrg', 'grbg') for bits in (8, 16)]
    + ['yuv422', 'yuv422_yuy2'])

# libjpeg's own limit.
_JPEG_SIDE = 65500
_PROBE_SECONDS = 60
_PROBE = """
import array
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
image = Image(height=1, width=2, step=6, encoding='bgr8', data=array.array('B', range(6)))
picture = CvBridge().imgmsg_to_cv2(image, 'rgb8')
print('right' if picture.tolist() == [[[2, 1, 0], [5, 4, 3]]] else 'wrong')
"""


@cache
def cv_bridge_status() -> tuple[bool, str]:
    """
    Tell whether cv_bridge can be used: (works, its version or why it does not).

    The answer comes from one conversion in a process of its own, asked for once and remembered:
    built for NumPy 1 and run with NumPy 2, cv_bridge imports with a page of complaints and then
    ends the process at its first conversion with a segmentation fault. Without cv_bridge this
    costs nothing, with it as long as importing it takes (about half a second).
    """
    if find_spec('cv_bridge') is None:
        return False, 'cv_bridge is not installed'
    if not sys.executable:
        return False, 'cv_bridge cannot be tried: this process knows no Python interpreter'
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    try:
        probe = subprocess.run([sys.executable, '-c', _PROBE], env=environment, text=True,
                               stdin=subprocess.DEVNULL, capture_output=True, errors='replace',
                               timeout=_PROBE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f'cv_bridge cannot be tried: {error}'
    if probe.returncode == 0 and probe.stdout.split()[-1:] == ['right']:
        return True, _version()
    if probe.returncode == 0:
        return False, f'cv_bridge converts wrongly: {probe.stdout.strip()[-200:]!r}'
    reason = 'ended by signal ' + str(-probe.returncode)
    if probe.returncode > 0:
        reason = (probe.stderr.strip().splitlines() or ['no message'])[-1]
    if 'compiled using NumPy 1.x' in probe.stderr:
        reason += f'; it was built for NumPy 1, this is NumPy {np.__version__}'
    return False, f'cv_bridge is installed but does not work ({reason})'


def to_rgb(message: Any) -> np.ndarray:
    """
    Turn a sensor_msgs/Image, serialised or not, or CompressedImage into an RGB picture.

    cv_bridge does it where it works and the image is one it converts like the built-in decoder;
    never a CompressedImage: it takes every file for bgr8 and cannot read grey ones.

    Return (H, W, 3) uint8, channels R, G, B. Treat it as read-only: an rgb8 picture is a view of
    the message's data where its rows are not padded.

    Raise ImageError for an image that cannot be decoded, TypeError for another message type.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed(message.data, message.format)
    if not isinstance(message, (Image, SerialisedImage)):
        raise TypeError(f'message is a {type(message).__name__}; sensor_msgs/Image or '
                        'sensor_msgs/CompressedImage is expected')
    if _fits_cv_bridge(message) and cv_bridge_status()[0]:
        try:
            return np.ascontiguousarray(_bridge().imgmsg_to_cv2(message, 'rgb8'))
        except TypeError as error:  # which its own class of errors is
            raise ImageError(f'{message.encoding} image of {message.width} x {message.height}: '
                             f'cv_bridge cannot convert it: {error}') from error
    return decode(message.data, height=message.height, width=message.width,
                  encoding=message.encoding, step=message.step,
                  is_bigendian=bool(message.is_bigendian))


def from_rgb(array: np.ndarray, header: Any) -> Image:
    """
    Make a sensor_msgs/Image (rgb8, rows without padding) of a picture.

    array: (H, W, 3) uint8, channels R, G, B. header: std_msgs/Header, assigned as it is, not
    copied. Raise ImageError for another shape or type.
    """
    _check_picture(array)
    height, width, _ = array.shape
    message = Image(header=header, height=height, width=width, encoding='rgb8', step=3 * width,
                    is_bigendian=0)
    # Any other type is checked value by value: 41 ms instead of 0.03 ms for 640 x 480.
    data = byte_array('B')
    data.frombytes(np.ascontiguousarray(array).data)
    message.data = data
    return message


def to_compressed(array: np.ndarray, header: Any, quality: int = 90) -> CompressedImage:
    """
    Make a sensor_msgs/CompressedImage (JPEG) of a picture, as compressed_image_transport does.

    array: (H, W, 3) uint8, channels R, G, B. header: std_msgs/Header, assigned as it is.
    quality: 1 to 100, libjpeg's. Raise ImageError for another shape, type or quality.
    """
    _check_picture(array)
    if not 1 <= quality <= 100:
        raise ImageError(f'JPEG quality is {quality}; 1 to 100 is expected')
    height, width, _ = array.shape
    if max(height, width) > _JPEG_SIDE:
        raise ImageError(f'picture of {width} x {height} does not fit a JPEG, which holds at most '
                         f'{_JPEG_SIDE} x {_JPEG_SIDE} pixels; shrink it')
    whole, file = cv2.imencode('.jpg', cv2.cvtColor(array, cv2.COLOR_RGB2BGR),
                               [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    if not whole:
        raise ImageError(f'OpenCV cannot write a picture of {width} x {height} as JPEG')
    # What the publisher of compressed_image_transport writes for rgb8; its subscriber and rviz
    # read from it that the file's channels are in the usual order.
    message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
    data = byte_array('B')
    data.frombytes(file.data)
    message.data = data
    return message


def _check_picture(picture: Any) -> None:
    if not isinstance(picture, np.ndarray):
        raise ImageError(f'picture is a {type(picture).__name__}; a (H, W, 3) uint8 array in the '
                         'order R, G, B is expected')
    if (picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3
            or picture.size == 0):
        raise ImageError(f'picture is {picture.dtype} of shape {picture.shape}; uint8 of shape '
                         '(H, W, 3) in the order R, G, B is expected')


def _fits_cv_bridge(message: Image) -> bool:
    """Tell whether cv_bridge gives the built-in decoder's picture; else that one decides."""
    if message.encoding not in BRIDGED or message.is_bigendian:
        # With NumPy 2 the flag alone makes imgmsg_to_cv2 call a method that is gone.
        return False
    spec = ENCODINGS[message.encoding]
    # imgmsg_to_cv2 shears the picture where a step is no multiple of the pixel, takes any buffer
    # that is long enough, and turns a mosaic without inner pixels black.
    return (min(message.height, message.width) >= spec.smallest
            and not (spec.even_width and message.width % 2)
            and message.step % spec.bytes_per_pixel == 0
            and message.step >= message.width * spec.bytes_per_pixel
            and message.step * message.height == len(message.data))


@cache
def _bridge() -> Any:
    from cv_bridge import CvBridge
    return CvBridge()


def _version() -> str:
    try:
        return 'cv_bridge ' + metadata.version('cv_bridge')
    except metadata.PackageNotFoundError:
        return 'cv_bridge of unknown version'
