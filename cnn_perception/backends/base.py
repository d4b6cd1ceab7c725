"""What every engine is: a way to prepare pictures, a way to run them, and names of layers."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cnn_perception.backends.batches import Forward
from cnn_perception.backends.outputs import needed, Output, with_outputs
from cnn_perception.backends.tapping import TappedNetwork
from cnn_perception.preprocess import Preprocessing
from cnn_perception.preprocessor import Preprocessor
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import nn

__all__ = ['Backend', 'channels_last', 'CompileError', 'drop_taps', 'DTYPES', 'first_line',
           'PRECISIONS', 'Settings']

PRECISIONS = ('float32', 'float16', 'bfloat16', 'int8')
DTYPES = {'float32': torch.float32, 'float16': torch.float16, 'bfloat16': torch.bfloat16}


class CompileError(RuntimeError):
    """An engine cannot run this network; another one may."""


@dataclass(frozen=True)
class Settings:
    """
    What a person chooses about an engine.

    threads: CPU threads of the network, 0 for one on each physical core.
    calibration: (H, W, 3) uint8 RGB pictures like those of the robot, for precision int8.
    cache_dir: folder for what an engine compiled, so that the next start is faster; '' for none,
    or where the engine itself chooses.
    """

    device: torch.device
    precision: str = 'float32'
    threads: int = 0
    calibration: tuple[np.ndarray, ...] = ()
    cache_dir: str = ''


class Backend:
    """
    An engine for one network; the reference is `TorchBackend`.

    `prepare` and `forward` may be called from several threads at once. `notes` says what a person
    should know about how it runs, '' if nothing.
    """

    # Given by `selection.register`.
    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]]
    precisions: ClassVar[tuple[str, ...]]

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Keep what every engine needs; CompileError where the engine cannot run the network."""
        self.settings = settings
        self.device = settings.device
        self.precision = settings.precision
        self.notes = ''
        self.module = module.eval().requires_grad_(False)
        self.preprocessor = Preprocessor(preprocessing, self.device)
        self._traced: TappedNetwork | None = None
        self._outputs: dict[str, Output] = {}

    @classmethod
    def refusal(cls, settings: Settings) -> str:
        """Say what is missing and what to do about it, '' where the engine can be used."""
        return ''

    def prepare(self, frames: Sequence[np.ndarray]) -> Any:
        """
        Turn (H, W, 3) uint8 RGB pictures of any sizes into what `forward` of this engine takes.

        The reference gives (N, C, h, w) float32, normalised; other engines may give other things.
        """
        with torch.inference_mode():
            return self.preprocessor(frames)

    def forward(self, batch: Any, taps: tuple[str, ...] = ()) -> Forward:
        """
        Run what `prepare` returned, N pictures as one batch.

        taps: layers whose activations are wanted too, and names of `add_output`; an unknown one
        raises ValueError with near matches.
        """
        raise NotImplementedError

    def forward_pictures(self, frames: Sequence[np.ndarray], taps: tuple[str, ...] = ()
                         ) -> Forward:
        """Prepare and run pictures; some engines have a shorter way for both than one by one."""
        return self.forward(self.prepare(frames), taps)

    def forget(self, taps: tuple[str, ...]) -> None:
        """Free what was compiled for these taps; it is compiled again when it is asked for."""

    def layer_names(self) -> list[str]:
        """List every layer that can be tapped, in the order of the forward pass."""
        return self.traced().layer_names

    def traced(self) -> TappedNetwork:
        """Return the traced network, traced when it is first asked for."""
        if self._traced is None:
            with TRACING.alone():
                if self._traced is None:
                    self._traced = TappedNetwork(self.module)
        return self._traced

    def add_output(self, name: str, output: Output) -> None:
        """Let `forward` take a further name among its taps, which must not be a layer's."""
        if name in self.layer_names():
            raise ValueError(f"'{name}' is a layer, expected a name that no layer has")
        self._outputs[name] = output

    def tapped(self, taps: tuple[str, ...]) -> nn.Module:
        """Return a module (N, C, h, w) -> (logits, {tap: activation}), sharing the weights."""
        if not taps:
            return WithoutTaps(self.module)
        if not self._outputs.keys() & set(taps):
            return self.traced().derive(taps)
        return with_outputs(self.traced().derive(needed(taps, self._outputs)), taps,
                            self._outputs)


def channels_last(module: nn.Module) -> nn.Module:
    """Lay the weights of convolutions over pictures out as those are read fastest, in place."""
    # Not `Module.to`, which refuses networks that have convolutions of three axes as well.
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def first_line(error: BaseException) -> str:
    """Return the line of a library's long report that says what is wrong."""
    return str(error).strip().partition('\n')[0]


def drop_taps(table: MutableMapping[tuple[int, tuple[str, ...]], Any], taps: tuple[str, ...]
              ) -> None:
    """Remove what was made for these taps, of any batch size, from {(size, taps): ...}."""
    # A copy of the keys, because another thread may add some meanwhile.
    for key in [*table]:
        if key[1] == taps:
            table.pop(key, None)


class WithoutTaps(nn.Module):
    """The network itself, answering in the form of a tapped one."""

    def __init__(self, module: nn.Module) -> None:
        """Wrap a module (N, C, h, w) -> (N, K)."""
        super().__init__()
        self.module = module

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Run (N, C, h, w); no activations."""
        return self.module(batch), {}
