"""
Letters that OpenCV's font does not have, from the fonts of the system, where it has them.

OpenCV writes the letters of ASCII. A robot's classes may have names in any script; a desktop has a
font for those of whoever works there. A container often has none, but matplotlib brings one with
the letters of Europe.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
import unicodedata

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ['font_for', 'width', 'write_with']

FOLDERS = ('/usr/share/fonts', '/usr/local/share/fonts', '~/.local/share/fonts', '~/.fonts')
SUFFIXES = ('.ttf', '.ttc', '.otf')
# Fonts without serifs that have most scripts, and what the others have in their names that are
# rather not taken. A system may have thousands; so many are opened.
KNOWN = ('NotoSansCJK-Regular', 'NotoSans-Regular', 'DejaVuSans', 'DroidSansFallbackFull',
         'FreeSans', 'LiberationSans-Regular')
RATHER_NOT = ('bold', 'italic', 'oblique', 'mono', 'serif', 'emoji', 'light', 'thin', 'black')
MOST = 250
# A font that has a box with the name of the script for every letter there is.
PLACEHOLDERS = 'lastresort'
# Pixels of a font that is only looked at, and a character that no font has (Unicode's last one).
SAMPLE, NOBODYS = 100, '\U0010ffff'
# Join and part the letters beside them, in Persian and Hindi say, and are not seen themselves.
JOINERS = '\u200c\u200d'


@lru_cache(maxsize=4096)
def font_for(text: str) -> Path | None:
    """Return a font that has every letter of a text, None where there is none."""
    wanted = sorted({*text})
    return next((path for path in _fonts() if all(_has(path, letter) for letter in wanted)), None)


def width(text: str, path: Path, capital: float) -> int:
    """Return how many pixels wide a text is, with capital letters of so many pixels."""
    return round(_sized(path, capital).getlength(text))


def write_with(path: Path, picture: np.ndarray, text: str, origin: tuple[int, int],
               capital: float, colour: tuple[int, int, int]) -> None:
    """
    Write on a picture (H, W, 3) uint8 RGB, in place.

    origin: (column, row) of the lower left corner of the first capital letter.
    """
    font = _sized(path, capital)
    left, top, right, bottom = font.getbbox(text, anchor='ls')
    rows = slice(max(0, origin[1] + int(top) - 1), max(0, origin[1] + int(bottom) + 1))
    columns = slice(max(0, origin[0] + int(left) - 1), max(0, origin[0] + int(right) + 1))
    region = picture[rows, columns]
    if region.size:
        image = Image.fromarray(np.ascontiguousarray(region))
        ImageDraw.Draw(image).text((origin[0] - columns.start, origin[1] - rows.start), text,
                                   font=font, fill=colour, anchor='ls')
        region[...] = np.asarray(image)


@lru_cache(maxsize=1)
def _fonts() -> tuple[Path, ...]:
    """List the fonts of the system, those first that are looked into first."""
    found: set[Path] = set()
    for folder in FOLDERS:
        with contextlib.suppress(RuntimeError):  # some users have no home
            found.update(path for path in Path(folder).expanduser().rglob('*')
                         if path.suffix.lower() in SUFFIXES
                         and PLACEHOLDERS not in path.name.lower())
    if (spec := find_spec('matplotlib')) is not None and spec.origin:
        found.add(Path(spec.origin).parent / 'mpl-data' / 'fonts' / 'ttf' / 'DejaVuSans.ttf')
    return tuple(sorted(found, key=_rank))[:MOST]


def _rank(path: Path) -> tuple[int, int, str]:
    known = KNOWN.index(path.stem) if path.stem in KNOWN else len(KNOWN)
    return known, sum(word in path.stem.lower() for word in RATHER_NOT), str(path)


@lru_cache(maxsize=2 ** 14)
def _has(path: Path, letter: str) -> bool:
    """Tell whether a font has a letter, and not only the box that stands for one it has not."""
    if letter in JOINERS:
        return True
    if unicodedata.category(letter) in ('Cc', 'Cf', 'Cn', 'Co', 'Cs'):
        return False
    try:
        font = _opened(path, SAMPLE)
        return _drawn(font, letter) != _drawn(font, NOBODYS)
    except OSError:  # no font, or one of pictures, which has one size alone
        return False


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


@lru_cache(maxsize=512)
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@lru_cache(maxsize=512)
def _sized(path: Path, capital: float) -> ImageFont.FreeTypeFont:
    """Return a font whose capital letters are so many pixels high."""
    _, top, _, bottom = _opened(path, SAMPLE).getbbox('H', anchor='ls')
    return _opened(path, max(1, round(capital * SAMPLE / max(1, bottom - top))))
