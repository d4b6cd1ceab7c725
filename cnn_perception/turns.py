"""Whose turn it is where networks are traced and run: a process can have several of either."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import threading

__all__ = ['Tracing', 'TRACING']


class Tracing:
    """
    Lets modules run in several threads at once, and a trace of one only alone.

    While torch traces a network it patches nn.Module for every thread: a forward pass elsewhere
    would be caught in the trace.
    """

    def __init__(self) -> None:
        """Begin with nobody inside."""
        self._changed = threading.Condition()
        self._tracer = 0
        self._depth = 0
        self._waiting = 0
        self._passes: dict[int, int] = {}

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Trace: wait until no other thread runs or traces a module, and keep them out."""
        thread = threading.get_ident()
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self._tracer in (0, thread)
                                       and not self._passes.keys() - {thread})
            finally:  # an interrupt must not leave others waiting for this one
                self._waiting -= 1
                self._changed.notify_all()
            self._tracer, self._depth = thread, self._depth + 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                self._tracer = thread if self._depth else 0
                self._changed.notify_all()

    @contextlib.contextmanager
    def passing(self) -> Iterator[None]:
        """Run a module: wait until no other thread traces one, and let none begin to."""
        thread = threading.get_ident()
        with self._changed:
            # One that waits to trace comes first, or a busy camera would keep it waiting for ever.
            self._changed.wait_for(lambda: self._tracer == thread or thread in self._passes
                                   or not (self._tracer or self._waiting))
            self._passes[thread] = self._passes.get(thread, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._passes[thread] -= 1
                if not self._passes[thread]:
                    del self._passes[thread]
                    self._changed.notify_all()


TRACING = Tracing()
