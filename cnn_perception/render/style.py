"""Colours and letters that all pictures share; every colour is (R, G, B), 0 to 255."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
import unicodedata

import cv2
import numpy as np

from .letters import font_for, width, write_with

__all__ = ['BAR_BEST', 'BAR_GROUND', 'BAR_OTHER', 'GREY', 'GROUND', 'SHADE', 'SMALL', 'Typeface',
           'WHITE', 'fitted', 'letterbox', 'text_width', 'typeface', 'write']

FONT = cv2.FONT_HERSHEY_DUPLEX
# Height in pixels of a capital letter of the font at scale 1.
CAPITAL = 22.0
# Letters that are no ASCII letter with an accent.
WRITTEN_OUT = {'ß': 'ss', 'æ': 'ae', 'Æ': 'AE', 'œ': 'oe', 'Œ': 'OE', 'ø': 'o', 'Ø': 'O', 'ł': 'l',
               'Ł': 'L', 'đ': 'd', 'Đ': 'D', 'ı': 'i', 'þ': 'th', 'Þ': 'Th', '–': '-', '—': '-',
               '’': "'", '‘': "'", '“': '"', '”': '"', '×': 'x', '·': '.', '⁄': '/'}
SHADE = 0.38
WHITE = (255, 255, 255)
GREY = (200, 204, 210)
BAR_BEST = (64, 190, 120)
BAR_OTHER = (88, 150, 214)
BAR_GROUND = (92, 92, 92)
GROUND = (24, 24, 24)


class Typeface(NamedTuple):
    """Letters of one size: capital is the height of a capital letter in pixels."""

    scale: float
    thickness: int
    capital: float


def typeface(capital: float) -> Typeface:
    """Return letters whose capitals are `capital` pixels high; below 8 they cannot be read."""
    return Typeface(capital / CAPITAL, max(1, round(capital / 13.0)), capital)


SMALL = typeface(9.0)
"""The smallest letters in use."""


@lru_cache(maxsize=4096)
def text_width(text: str, face: Typeface) -> int:
    """Return how many pixels wide a text is."""
    if not text.isascii() and (font := font_for(text)):
        return width(text, font, face.capital)
    return int(cv2.getTextSize(drawable(text), FONT, face.scale, face.thickness)[0][0])


def write(picture: np.ndarray, text: str, origin: tuple[int, int], face: Typeface,
          colour: tuple[int, int, int], room: int | None = None) -> None:
    """
    Write on a picture (H, W, 3) uint8 RGB, in place.

    origin: (column, row) of the lower left corner. room: pixels to the right of it; a longer text
    is shortened with dots.
    """
    if room is not None:
        text = fitted(text, room, face)
    if not text.isascii() and (font := font_for(text)):
        write_with(font, picture, text, origin, face.capital, colour)
        return
    cv2.putText(picture, drawable(text), origin, FONT, face.scale, colour, face.thickness,
                cv2.LINE_AA)


@lru_cache(maxsize=4096)
def drawable(text: str) -> str:
    """
    Return a text in the letters of OpenCV's font, which are those of ASCII.

    Accents are left out (NFKD of Unicode's standard annex 15) and a few letters written out; what
    has no such letter is one question mark each, where the font would draw two or three.
    """
    if text.isascii():
        return text
    return ''.join(_in_ascii(one) for one in unicodedata.normalize('NFC', text))


def _in_ascii(letter: str) -> str:
    """Return a letter without its accents; one question mark where nothing of it is ASCII."""
    if unicodedata.combining(letter):
        return ''
    parts = WRITTEN_OUT.get(letter) or unicodedata.normalize('NFKD', letter)
    return ''.join(part if part.isascii() else WRITTEN_OUT.get(part, '')
                   for part in parts) or '?'


def fitted(text: str, room: int, face: Typeface) -> str:
    """Return as much of a text as fits into `room` pixels."""
    if text_width(text, face) <= room:
        return text
    while text and text_width(f'{text}...', face) > room:
        text = text[:-1]
    return f'{text.rstrip()}...' if text else ''


def letterbox(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """
    Fit a picture (H, W, 3) uint8 into width x height, centred, its proportions kept.

    What remains is filled with the ground colour.
    """
    zoom = min(width / picture.shape[1], height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * zoom)), max(1, round(picture.shape[0] * zoom)))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    box = np.full((height, width, 3), GROUND, np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    box[top:top + size[1], left:left + size[0]] = (
        picture if zoom == 1 else cv2.resize(picture, size, interpolation=way))
    return box
