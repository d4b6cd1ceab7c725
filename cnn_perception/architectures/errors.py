"""The one exception of this package, and the words its messages share."""

from __future__ import annotations

from collections.abc import Iterable
import difflib
import reprlib
from typing import Any

__all__ = ['ArchitectureError', 'did_you_mean', 'shape_text', 'shown']


class ArchitectureError(ValueError):
    """A network that cannot be found, read, built or described, with what would work instead."""


def did_you_mean(word: str, candidates: Iterable[str], limit: int = 5) -> str:
    """
    Offer the candidates that resemble a misspelt word.

    Returns ' Did you mean a, b?' with a leading space, ready to be appended, or '' where nothing
    is near. Case is ignored, as people write ResNet-18 for resnet18.
    """
    def plain(name: str) -> str:
        return name.lower().replace('-', '').replace('_', '').replace(' ', '')

    by_plain: dict[str, str] = {}
    for candidate in candidates:
        by_plain.setdefault(plain(candidate), candidate)
    wanted = plain(str(word))
    near = difflib.get_close_matches(wanted, by_plain, n=limit, cutoff=0.6)
    # Close matches miss words cut short or spelt out, as in convolution for conv.
    near += [name for name in by_plain if name not in near and len(wanted) > 2 and len(name) > 2
             and (name.startswith(wanted) or wanted.startswith(name))]
    chosen = ', '.join(by_plain[name] for name in near[:limit])
    return f' Did you mean {chosen}?' if chosen else ''


def shape_text(shape: Iterable[int]) -> str:
    """Write a shape the way the lectures do: (3, 32, 32) is '3 x 32 x 32', (400,) is '400'."""
    return ' x '.join(str(size) for size in shape)


def shown(value: Any) -> str:
    """Return a repr short enough for an error message, whatever a file contained."""
    return reprlib.repr(value)
