"""The newest of each camera, handed from one thread to another."""

from __future__ import annotations

from dataclasses import dataclass
import threading
from typing import Any

__all__ = ['Letter', 'Mailbox']


@dataclass(frozen=True)
class Letter:
    """A message, of an image with its camera and when it came, in ns of the steady clock."""

    camera: str
    message: Any
    arrival: int = 0


class Mailbox:
    """
    One slot for each camera; a newer message replaces an older one that nobody took.

    What works slowly therefore works on the newest and never on a queue of stale ones.
    """

    def __init__(self) -> None:
        """Start empty and open."""
        self._slots: dict[str, Letter] = {}
        self._changed = threading.Condition()
        self._closed = False

    def put(self, letter: Letter) -> bool:
        """Leave a message; returns True where it replaced one, which is thereby dropped."""
        with self._changed:
            replaced = self._slots.pop(letter.camera, None) is not None
            # Taken out and put in again, so that the camera that waits longest is served first.
            self._slots[letter.camera] = letter
            self._changed.notify()
            return replaced

    def take(self) -> list[Letter]:
        """Wait for mail and take all of it, oldest first; an empty list says: closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._slots or self._closed)
            if self._closed:
                return []
            letters = list(self._slots.values())
            self._slots.clear()
            return letters

    def close(self) -> None:
        """Wake the worker for the last time; what still lies here is dropped."""
        with self._changed:
            self._closed = True
            self._slots.clear()
            self._changed.notify_all()
