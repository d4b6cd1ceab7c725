"""Python's garbage collector, kept from looking through what is made and stays."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import gc

__all__ = ['without_collector']


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep garbage from being looked for among what an import makes, and all of which stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
