"""Names of cameras, below which their topics are."""

from __future__ import annotations

from collections.abc import Sequence
import re

__all__ = ['check_camera_names']

NAME = re.compile(r'[A-Za-z]\w*(/[A-Za-z]\w*)*', re.ASCII)


def check_camera_names(names: Sequence[str]) -> None:
    """Refuse, with ValueError, what cannot be above topics and what is there twice."""
    for name in names:
        twice = names.count(name) > 1
        if twice or not NAME.fullmatch(name):
            raise ValueError(f'cameras are {list(names)}, expected relative names that differ, of '
                             f"letters, digits and _, such as front, left; '{name}' "
                             f'{"is there twice" if twice else "is none"}')
