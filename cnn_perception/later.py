"""
Modules whose code runs when something of them is asked for, and not when they are imported.

An import of torch runs all of torch. Exporting networks, and what every operation does on the
meta device, take more than a quarter of it, and a network that answers needs neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
import sys
import threading
from types import ModuleType
from typing import Any

__all__ = ['is_put_off', 'Later', 'load', 'META', 'PUT_OFF', 'put_off']

META = 'torch._meta_registrations'
PUT_OFF = (META, 'torch.export')
# Whoever exports or compiles makes tensors without memory, and has to find all operations on them.
NEEDS_META = 'torch._dynamo'


class Later(ModuleType):
    """A module whose code has not run yet; it becomes a module as any other when it is asked."""

    def __getattr__(self, name: str) -> Any:
        """Run the code, and look again."""
        load(self.__name__)
        if type(self) is Later:  # its own code is running
            raise AttributeError(f'module {self.__name__} has no {name} yet')
        return getattr(self, name)


class Postponed(Loader):
    """Makes a module of which another loader runs the code later."""

    def __init__(self, real: Loader) -> None:
        """Take the loader that the module would have had."""
        self.real = real
        # The thread that runs the code asks for what is there already.
        self.lock = threading.RLock()
        self.runs = False

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing yet."""
        module.__class__ = Later


class Present(Loader):
    """Gives a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        """Take it."""
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return it."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Run nothing again."""
        module.__spec__ = self.spec


class Finder(MetaPathFinder):
    """Finds the modules that are put off, and has one run before what lies in it."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take their names."""
        self.names = set(names)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None
                  ) -> ModuleSpec | None:
        """Return how to import a module; None leaves it to the other finders."""
        if fullname == NEEDS_META:
            load(META)
        parent = fullname.rpartition('.')[0]
        if parent in self.names and is_put_off(parent):
            load(parent)
            # Which has imported most of what lies in it: a second copy would be another module.
            # What stands there when a finder returns would be run again, so it does not.
            if module := sys.modules.pop(fullname, None):
                return ModuleSpec(fullname, Present(module))
        spec = PathFinder.find_spec(fullname, path) if fullname in self.names else None
        if spec is None or spec.loader is None:
            return None
        spec.loader = Postponed(spec.loader)
        return spec


def put_off(names: Sequence[str] = PUT_OFF) -> None:
    """Have modules that nobody has imported run when they are asked for, in this process."""
    sys.meta_path.insert(0, Finder(names))


def is_put_off(name: str) -> bool:
    """Tell whether a module was imported and has not run."""
    return isinstance(sys.modules.get(name), Later)


def load(name: str) -> None:
    """Run the code of a module that was put off; nothing where it was not, or has run."""
    module = sys.modules.get(name)
    if not isinstance(module, Later):
        return
    spec: Any = module.__spec__
    postponed: Postponed = spec.loader
    with postponed.lock:
        if postponed.runs or not is_put_off(name):
            return
        postponed.runs = True
        try:
            postponed.real.exec_module(module)
            spec.loader = module.__loader__ = postponed.real
            module.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            postponed.runs = False
