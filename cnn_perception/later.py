"""
Modules whose code runs when something of them is asked for, and not when they are imported.

An import of torch runs all of torch. Exporting networks, and what every operation does on the
meta device (with the primitive ones that it is written in), take more than a quarter of it, and a
network that answers needs neither, nor distributions or collections of pictures. Whoever runs
operations on the meta device has to `load(META)` before.
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
PRIMS = 'torch._prims'
PUT_OFF = (META, PRIMS, 'torch.export', 'torch.distributions', 'torchvision.datasets')
# What has a home elsewhere, (module, name), and is all that is asked of a module by some: OpenVINO
# takes every weight that it converts for a possible tensor without memory.
GIVEN = {PRIMS: ('torch._subclasses.fake_tensor', 'FakeTensor')}
# Whoever exports or compiles makes tensors without memory, and has to find all operations on them.
NEEDS_META = 'torch._dynamo'


class Inside(threading.local):
    """How many modules that come after another one this thread is importing."""

    count = 0


INSIDE = Inside()


class Later(ModuleType):
    """A module whose code has not run yet; it becomes a module as any other when it is asked."""

    def __getattr__(self, name: str) -> Any:
        """Run the code, and look again."""
        # One that imports a part of it may be what another thread, which runs it, waits for.
        load(self.__name__, wait=not INSIDE.count)
        if type(self) is Later:  # its own code is running
            raise AttributeError(f'module {self.__name__} has no {name} yet')
        return getattr(self, name)

    def __dir__(self) -> list[str]:
        """Run the code, and list what there is."""
        load(self.__name__)
        return sorted(vars(self))


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
        home, name = GIVEN.get(module.__name__, ('', ''))
        if home in sys.modules:
            setattr(module, name, getattr(sys.modules[home], name))


class After(Loader):
    """
    Loads a module after what it needs has run, unless that has imported it.

    Finders are asked with all imports of other threads held up, loaders are not.
    """

    def __init__(self, real: Loader, needed: str) -> None:
        """Take the loader that the module would have had, and the module that runs before it."""
        self.real, self.needed = real, needed
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that is there already, else what the loader makes."""
        # Not waited for: who runs it may wait for an import of this thread.
        load(self.needed, wait=False)
        module = sys.modules.get(spec.name)
        if module is None:
            return self.real.create_module(spec)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the code, where it has not."""
        if self.spec is not None:
            module.__spec__ = self.spec
            return
        spec: Any = module.__spec__
        spec.loader = module.__loader__ = self.real
        INSIDE.count += 1
        try:
            self.real.exec_module(module)
        finally:
            INSIDE.count -= 1


class Finder(MetaPathFinder):
    """Finds the modules that are put off, and what has to come after one of them."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take their names."""
        self.names = set(names)

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None
                  ) -> ModuleSpec | None:
        """Return how to import a module; None leaves it to the other finders."""
        parent = fullname.rpartition('.')[0]
        needed = META if fullname == NEEDS_META else parent if parent in self.names else ''
        new = fullname in self.names and fullname not in sys.modules
        spec = PathFinder.find_spec(fullname, path) if new or is_put_off(needed) else None
        if spec is None or spec.loader is None:
            return None
        spec.loader = Postponed(spec.loader) if new else After(spec.loader, needed)
        return spec


def put_off(names: Sequence[str] = PUT_OFF) -> None:
    """Have modules that nobody has imported run when they are asked for, in this process."""
    sys.meta_path.insert(0, Finder(names))


def is_put_off(name: str) -> bool:
    """Tell whether a module was imported and has not run."""
    return isinstance(sys.modules.get(name), Later)


def load(name: str, wait: bool = True) -> None:
    """
    Run the code of a module that was put off; nothing where it was not, or has run.

    wait: for another thread that is running it; else that is left to it.
    """
    module = sys.modules.get(name)
    if not isinstance(module, Later):
        return
    spec: Any = module.__spec__
    postponed: Postponed = spec.loader
    if not postponed.lock.acquire(wait):
        return
    try:
        if postponed.runs or not is_put_off(name):
            return
        postponed.runs = True
        try:
            postponed.real.exec_module(module)
            spec.loader = module.__loader__ = postponed.real
            # Narrowed to what it was until now, by the check above.
            module.__class__ = ModuleType  # type: ignore[assignment]
        finally:
            postponed.runs = False
    finally:
        postponed.lock.release()
