"""torch.compile: the reference's module, with kernels generated for this machine."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import threading
from types import FunctionType

from cnn_perception.backends.base import (
    CompileError, drop_taps, first_line, Settings)
from cnn_perception.backends.batches import Forward, joined, LARGEST, parts_of, Tapped
from cnn_perception.backends.selection import register
from cnn_perception.backends.torch_backend import TorchBackend
from cnn_perception.preprocess import Preprocessing
import numpy as np
import torch
from torch import nn

__all__ = ['CompileBackend']

LOGGER = logging.getLogger(__name__)
# One specialisation for each batch size and set of taps; torch's own limit is 8.
MOST_SHAPES = 128
COMPILERS = ('g++', 'clang++', 'c++')
# Where torch keeps what it has compiled, for the whole process; and what that was before.
FOLDER = 'TORCHINDUCTOR_CACHE_DIR'
BEFORE: dict[str, str | None] = {}


@register('compile')
class CompileBackend(TorchBackend):
    """
    Runs what torch.compile makes of a network; each batch size and set of taps once, in seconds.

    While something is compiled in one thread, what has been compiled runs in others. Where a later
    one cannot be compiled, that one runs in eager torch, with a warning, once.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Compile for one picture; CompileError where torch cannot."""
        super().__init__(module, preprocessing, settings)
        keep_in(settings.cache_dir)
        self._compiled: dict[tuple[int, tuple[str, ...]], Tapped] = {}
        self._building = threading.Lock()
        try:
            self._compile(self.tapped(()), (1, ()), self.prepare([
                np.zeros((*preprocessing.crop, 3), np.uint8)]))
        except Exception as error:  # generators and compilers raise classes of many libraries
            raise CompileError(summary(error)) from error

    @classmethod
    def refusal(cls, settings: Settings) -> str:
        """Say what is missing: a C++ compiler for the CPU, Triton for a GPU."""
        if settings.device.type == 'cpu' and not (
                shutil.which(os.environ.get('CXX', '') or COMPILERS[0])
                or any(shutil.which(name) for name in COMPILERS)):
            return ('torch.compile needs a C++ compiler: apt install g++, or choose backend '
                    'openvino or torch')
        if settings.device.type == 'cuda' and importlib.util.find_spec('triton') is None:
            return ('torch.compile needs the package triton: pip install triton, or choose '
                    'backend cuda')
        return super().refusal(settings)

    def forward(self, batch: torch.Tensor, taps: tuple[str, ...] = ()) -> Forward:
        """Run (N, C, h, w) float32, normalised; see `Backend.forward`."""
        return joined([self._run(part, taps)
                       for part in parts_of(batch, 1 if taps else LARGEST)])

    def _run(self, batch: torch.Tensor, taps: tuple[str, ...]) -> Forward:
        key = (batch.shape[0], taps)
        network = self._compiled.get(key)
        if network is None:
            with self._building:
                network = self._compiled.get(key) or self._build(batch, key)
        return self.run(network, batch)

    def _build(self, batch: torch.Tensor, key: tuple[int, tuple[str, ...]]) -> Tapped:
        module = self.tapped(key[1])
        try:
            return self._compile(module, key, batch)
        except Exception as error:  # as in the constructor
            LOGGER.warning('torch.compile failed for %d picture(s) with layers %s, eager '
                           'torch runs it: %s', key[0], list(key[1]), summary(error))
            self._compiled[key] = module
            return module

    def forget(self, taps: tuple[str, ...]) -> None:
        """Free the compiled modules; see `Backend.forget`."""
        drop_taps(self._compiled, taps)

    def _compile(self, module: nn.Module, key: tuple[int, tuple[str, ...]],
                 batch: torch.Tensor) -> Tapped:
        import torch._dynamo.config as dynamo
        # torch's own name for this has changed; either way it is only a limit.
        for limit in ('recompile_limit', 'cache_size_limit'):
            if hasattr(dynamo, limit):
                setattr(dynamo, limit, max(MOST_SHAPES, getattr(dynamo, limit)))
        compiled = torch.compile(of_its_own(module), dynamic=False)
        self.run_beside_others(compiled, batch)
        self._compiled[key] = compiled
        return compiled


def keep_in(folder: str) -> None:
    """Tell torch where to keep what it compiles from now on, '' for where it did before."""
    if folder:
        BEFORE.setdefault(FOLDER, os.environ.get(FOLDER))
        os.environ[FOLDER] = folder
    elif FOLDER in BEFORE:
        before = BEFORE.pop(FOLDER)
        del os.environ[FOLDER]
        os.environ.update({FOLDER: before} if before is not None else {})


def of_its_own(module: nn.Module) -> Tapped:
    """Return a function that runs a module; what is compiled of it goes when it goes."""
    def run(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return module(batch)
    # torch keeps what it compiled with the code, which all modules of a class share.
    return FunctionType(run.__code__.replace(), run.__globals__, run.__name__,
                        closure=run.__closure__)


def summary(error: Exception) -> str:
    """Name the kind of an error and the first line of a compiler's long report."""
    return f'{type(error).__name__}: {first_line(error)}'[:300]
