"""Where pictures come from: photographs, a folder, a file, a video, a camera device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
import logging
from pathlib import Path
import re

from cnn_perception import photographs
from cnn_perception.image_files import ImageError, jpeg_size, PNG_SIGNATURE, png_size
import cv2
import numpy as np

__all__ = ['Picture', 'PictureSource', 'open_source']

PICTURE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.pgm', '.ppm', '.tif', '.tiff', '.webp')
LOGGER = logging.getLogger(__name__)
# Pictures kept decoded, so that a short loop costs no decoding.
KEPT = 32


@dataclass(frozen=True)
class Picture:
    """A named picture; rgb is (H, W, 3) uint8."""

    name: str
    rgb: np.ndarray


class PictureSource:
    """Base of all sources: `pictures` plays one pass, `live` says that it is a camera."""

    live = False
    description = ''

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures of one pass, in order."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the device or file."""


class PictureList(PictureSource):
    """Pictures from files, or photographs by name."""

    def __init__(self, entries: list[Path] | list[str], description: str, width: int) -> None:
        """Read a picture at once, so that a source without any is refused at the start."""
        self._entries = entries
        self._width = width
        self._kept: dict[str, Picture] = {}
        self._unreadable: dict[str, tuple[int, int] | None] = {}
        stems = Counter(entry.stem for entry in entries if isinstance(entry, Path))
        # A cat.jpg beside a cat.png is another picture, and who gets the answer must see which.
        self._names = {str(entry): entry if isinstance(entry, str) else
                       entry.stem if stems[entry.stem] == 1 else entry.name for entry in entries}
        self.description = f'{len(entries)} pictures from {description}'
        if len(entries) == 1:
            self._load(entries[0])
        elif not any(True for _ in self.pictures()):
            raise ValueError(f'none of the {self.description} can be read')

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order of their names; what cannot be read is passed over."""
        for entry in self._entries:
            # Each is told of once, and tried again when it has changed: a folder is often played
            # for ever.
            now = version(entry)
            if self._unreadable.get(str(entry)) == now:
                continue
            try:
                picture = self._load(entry)
            except ValueError as error:
                if str(entry) not in self._unreadable:
                    LOGGER.warning('passed over: %s', error)
                # What could not even be opened, as on a disk that is away, is tried every time.
                opened = not isinstance(error.__cause__, OSError)
                self._unreadable[str(entry)] = now if opened else None
                continue
            self._unreadable.pop(str(entry), None)
            yield picture

    def _load(self, entry: Path | str) -> Picture:
        if (kept := self._kept.get(str(entry))) is not None:
            return kept
        rgb = read_picture(entry) if isinstance(entry, Path) else photographs.photograph(entry)
        picture = Picture(self._names[str(entry)], resized(rgb, self._width))
        if len(self._kept) < KEPT:
            self._kept[str(entry)] = picture
        return picture


class Capture(PictureSource):
    """A video file or a camera device, read by OpenCV."""

    def __init__(self, target: str | int, width: int, height: int) -> None:
        """Open it; ValueError where OpenCV cannot."""
        self.live = isinstance(target, int) or str(target).startswith('/dev/')
        self._target = target
        self._size = (width, height)
        self._capture = self._open()
        kind = 'camera' if self.live else 'video'
        self._name = f'{kind}{target}' if isinstance(target, int) else Path(str(target)).stem
        self.description = f'{kind} {target}'

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(self._target)
        if not capture.isOpened():
            remedy = ('is it connected, used by another program, and may this user read it '
                      '(group video)?' if self.live else 'is it a video that OpenCV can decode?')
            raise ValueError(f"source '{self._target}' cannot be opened; {remedy}")
        if self.live:
            # Fewer buffered frames are fewer milliseconds between the world and the picture.
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            for setting, value in zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT),
                                      self._size):
                if value:
                    capture.set(setting, value)
        return capture

    def pictures(self) -> Iterator[Picture]:
        """Yield frames until the video ends or the camera fails."""
        if not self._capture.isOpened():
            self._capture = self._open()
        while True:
            read, frame = self._capture.read()
            if not read:
                break
            rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            yield Picture(self._name, rgb if self.live else resized(rgb, self._size[0]))
        self.close()

    def close(self) -> None:
        """Give the device back."""
        self._capture.release()


def open_source(source: str, width: int = 0, height: int = 0) -> PictureSource:
    """
    Open what a user names: `photographs`, a folder, a picture, a video, a device or its number.

    width: pictures are resized to it, keeping their proportions; a camera is asked for width and
    height. 0 keeps the size. ValueError says what is wrong with the source.
    """
    if source == 'photographs':
        return PictureList(list(photographs.NAMES), 'scikit-image and scikit-learn', width)
    if re.fullmatch(r'\d+', source):
        return Capture(int(source), width, height)
    path = Path(source).expanduser()
    if path.is_dir():
        entries = sorted(entry for entry in path.iterdir()
                         if entry.suffix.lower() in PICTURE_SUFFIXES)
        if not entries:
            raise ValueError(f"folder '{path}' holds no pictures ({', '.join(PICTURE_SUFFIXES)}); "
                             'folders within it are not looked into')
        return PictureList(entries, f"'{path}'", width)
    if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file():
        return PictureList([path], f"'{path}'", width)
    if path.exists():
        return Capture(str(path), width, height)
    raise ValueError(f"source '{source}' does not exist; expected 'photographs', a folder, a "
                     'picture or video file, a camera device or its number')


def read_picture(path: Path) -> np.ndarray:
    """Read a picture file as (H, W, 3) uint8 RGB; ValueError where it is none."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise ValueError(f"'{path}' cannot be read: {error}") from error
    try:
        picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error as error:  # of more pixels than it takes
        raise ValueError(f"'{path}' cannot be read by OpenCV: {error.err}") from error
    if picture is None:
        raise ValueError(f"'{path}' {defect(data.tobytes())}")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def defect(data: bytes) -> str:
    """Say what is wrong with a picture file that OpenCV does not read."""
    if not data:
        return 'is empty'
    try:
        if data.startswith(b'\xff\xd8'):
            jpeg_size(data)
        elif data.startswith(PNG_SIGNATURE):
            png_size(data)
    except ImageError as error:
        return f'cannot be read: {error}'
    return 'is not a picture that OpenCV can read, or is cut off'


def version(entry: Path | str) -> tuple[int, int]:
    """Return what changes with a file: when it was written, and its size."""
    try:
        status = Path(entry).stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def resized(rgb: np.ndarray, width: int) -> np.ndarray:
    """Resize a picture to a width, keeping its proportions; 0 keeps it as it is."""
    if width in (0, rgb.shape[1]):
        return rgb
    height = max(1, round(rgb.shape[0] * width / rgb.shape[1]))
    smaller = width < rgb.shape[1]
    return cv2.resize(rgb, (width, height),
                      interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
