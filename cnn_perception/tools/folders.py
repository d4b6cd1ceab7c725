"""Folders that command lines write to."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ['check_folder', 'make_folder']


def check_folder(folder: Path) -> None:
    """
    Refuse a folder in which nothing can be written, before anything is computed for it.

    It may be one that is yet to be made; nothing is made here. Raises ValueError with the cause.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents)
                 if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ValueError(f'--out: got {folder}, expected a folder, but {there} '
                         + ('cannot be written to' if there.is_dir() else 'exists and is none'))


def make_folder(folder: Path) -> None:
    """Make a folder where it is not there; ValueError where that cannot be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f'--out: got {folder}, expected a folder, which cannot be made: {error}'
                         ) from error
