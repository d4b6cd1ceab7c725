"""
openvino and nncf, imported without the package that reports their use.

openvino tells Google Analytics of every start, in a process forked from the one that imports it
(from Python 3.14 on: one that runs the user's program once more), and keeps an identity in the
user's home. Where that package is missing, neither misses it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__all__ = ['import_silently']

REPORTER = 'openvino_telemetry'


def import_silently(name: str) -> ModuleType:
    """Import openvino or nncf; whoever has imported the reporter before keeps it."""
    if REPORTER in sys.modules:
        return importlib.import_module(name)
    # Python's sign for what cannot be imported; its type stubs know of modules alone.
    sys.modules[REPORTER] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[REPORTER]
