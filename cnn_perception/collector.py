"""Python's garbage collector, kept from what an import or a recording makes."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import gc

__all__ = ['without_collector']


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Let no garbage be looked for meanwhile: most of what is made then stays."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
