"""
torchvision and timm, imported without the compiler that torch would load for them.

torchvision asks that compiler a question when it is used on a GPU, and timm tells it to leave an
iterator alone. Loading it for that takes as long as everything else of torch, a quarter of the
time from the start of a node to its first answer. Whatever needs it later loads it then. Where
exporting networks is put off, as a node does, torchvision does not load it to add its operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import functools
import importlib
import sys
from types import FunctionType, ModuleType
from typing import Any

from cnn_perception.collector import without_collector
from cnn_perception.later import is_put_off
import torch

__all__ = ['import_quickly', 'torchvision', 'without_compiler_for_meta']

COMPILER = 'torch._dynamo'
ASKED = f'{COMPILER}.utils'
DISABLE = torch.compiler.disable
EXPORTED = 'torchvision.ops._register_onnx_ops'


class StandIn(ModuleType):
    """Stands for a module that is not loaded; what it does not have itself loads the real one."""

    def __getattr__(self, name: str) -> Any:
        """Load the real module for what only that has."""
        if name.startswith('__'):
            raise AttributeError(name)
        self.leave()
        return getattr(importlib.import_module(self.__name__), name)

    def leave(self) -> None:
        """Make room for the real module."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        parent, _, child = self.__name__.rpartition('.')
        if vars(sys.modules.get(parent, self)).get(child) is self:
            delattr(sys.modules[parent], child)


class Asked(StandIn):
    """The compiler's module that torchvision asks."""

    @staticmethod
    def is_compile_supported(device_type: str) -> bool:
        """Answer torchvision's question when it is asked, not when it is imported."""
        return bool(importlib.import_module(ASKED).is_compile_supported(device_type))


class Undisturbed(StandIn):
    """The compiler, where it is only told what to leave alone."""

    @staticmethod
    def disable(fn: Callable, *arguments: Any, **options: Any) -> Callable:
        """Tell the compiler, as soon as there is one."""
        def run(*given: Any, **named: Any) -> Any:
            compiler = sys.modules.get(COMPILER)
            if compiler is None or isinstance(compiler, Undisturbed):
                return fn(*given, **named)
            return compiler.disable(fn, *arguments, **options)(*given, **named)
        return run


@contextlib.contextmanager
def without_compiler_for_meta() -> Iterator[None]:
    """
    Keep the compiler from being loaded by operations on the meta device.

    Each of them tells it to leave it alone, and for that loads it: seconds, in which a node that
    is asked for its layers does little else.
    """
    if COMPILER in sys.modules:
        yield
        return
    undisturbed = Undisturbed(COMPILER)
    sys.modules[COMPILER] = undisturbed
    setattr(torch, '_dynamo', undisturbed)  # noqa: B010 - of another type
    try:
        yield
    finally:
        undisturbed.leave()


def disabled_later(fn: Any = None, *arguments: Any, **options: Any) -> Any:
    """Do what `torch.compiler.disable` does, at the first call of what it is applied to."""
    if not isinstance(fn, FunctionType):
        return DISABLE(fn, *arguments, **options)

    @functools.cache
    def real() -> Callable:
        return DISABLE(fn, *arguments, **options)

    @functools.wraps(fn)
    def run(*given: Any, **named: Any) -> Any:
        return real()(*given, **named)
    return run


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Keep the compiler from being loaded, unless it is loaded already."""
    if COMPILER in sys.modules:
        yield
        return
    asked = Asked(ASKED)
    sys.modules[ASKED] = asked
    setattr(torch.compiler, 'disable', disabled_later)  # noqa: B010 - of another signature
    try:
        yield
    finally:
        torch.compiler.disable = DISABLE
        asked.leave()


@contextlib.contextmanager
def without_export() -> Iterator[None]:
    """Keep what exports networks from being loaded, where it is put off."""
    if not is_put_off('torch.export') or EXPORTED in sys.modules:
        yield
        return
    nothing = ModuleType(EXPORTED)
    setattr(nothing, '_register_custom_op', lambda: None)  # noqa: B010 - none that is known
    sys.modules[EXPORTED] = nothing
    try:
        yield
    finally:
        del sys.modules[EXPORTED]


def import_quickly(name: str) -> ModuleType:
    """Import `torchvision` or `timm`; ImportError where it is missing."""
    with without_compiler(), without_export(), without_collector():
        return importlib.import_module(name)


torchvision = import_quickly('torchvision')
