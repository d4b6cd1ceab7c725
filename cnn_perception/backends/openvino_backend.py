"""
OpenVINO on the CPU: the torch module converted directly, compiled for each batch size.

The compiled network takes the uint8 crop; the normalisation is its first operation. Compiled
networks are shared between threads, requests (the memory of one run) are not: each thread has
its own. Nothing of OpenVINO is imported before the first engine is built.
"""

from __future__ import annotations

from collections.abc import Sequence
import importlib.util
import logging
import threading
from typing import Any

from cnn_perception.backends import openvino_int8
from cnn_perception.backends.base import (
    Backend, CompileError, drop_taps, Settings)
from cnn_perception.backends.batches import Forward, joined, LARGEST, parts_of
from cnn_perception.backends.openvino_convert import (
    convert, last_line, round_constants, with_normalisation)
from cnn_perception.backends.selection import register
from cnn_perception.backends.telemetry import import_silently
from cnn_perception.preprocess import Preprocessing
from cnn_perception.processor import physical_cores
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import nn

__all__ = ['OpenVINOBackend']

LOGGER = logging.getLogger(__name__)
HINTS = {'float32': 'f32', 'bfloat16': 'bf16', 'float16': 'f16', 'int8': 'f32'}
CAPABILITIES = {'bfloat16': 'BF16', 'float16': 'FP16', 'int8': 'INT8'}


class Compiled(threading.local):
    """A compiled network and, for each thread, the request that it runs it with."""

    def __init__(self, network: Any) -> None:
        """Keep the network; called once more in each thread that uses it."""
        self.network = network
        self.request = network.create_infer_request()


@register('openvino', devices=('cpu',), precisions=('float32', 'bfloat16', 'float16', 'int8'))
class OpenVINOBackend(Backend):
    """
    Runs a network with OpenVINO.

    With precision int8 the plain network is quantised; a tapped one shows and runs the float32
    values. A tapped network that cannot be compiled runs in torch, with a warning, once.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Convert the network and compile it for single pictures."""
        super().__init__(module, preprocessing, settings)
        openvino = import_silently('openvino')
        self._core = openvino.Core()
        self._options = {
            'PERFORMANCE_HINT': 'LATENCY',
            'INFERENCE_PRECISION_HINT': HINTS[settings.precision],
            'INFERENCE_NUM_THREADS': settings.threads or physical_cores(),
            # Pinned threads of two processes would share the first cores and leave others idle,
            # and wait for whatever else runs there: beside one busy process, three times as long.
            'ENABLE_CPU_PINNING': False}
        if settings.cache_dir:
            self._options['CACHE_DIR'] = settings.cache_dir
        self._building = threading.RLock()
        self._converted: dict[tuple[str, ...], Any] = {}
        self._compiled: dict[tuple[int, tuple[str, ...]], Compiled] = {}
        self._in_torch: dict[tuple[int, tuple[str, ...]], Any] = {}
        try:
            self._compile(1, ())
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            raise CompileError(last_line(error)) from error
        self._largest = LARGEST
        if settings.precision == 'int8' and resized(self._converted[()], 2) is None:
            # Converted for another size it would have to be quantised for each.
            self._largest = 1
            LOGGER.warning('the network fixes the number of pictures in its graph: in int8 '
                           'openvino runs those of several cameras one after the other')

    @classmethod
    def refusal(cls, settings: Settings) -> str:
        """Say what is missing: the package, the processor's arithmetic, or what int8 needs."""
        if importlib.util.find_spec('openvino') is None:
            return 'the package openvino is not installed: pip install openvino'
        wanted = CAPABILITIES.get(settings.precision)
        if wanted:
            openvino = import_silently('openvino')
            has = openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
            if wanted not in has:
                others = ['float32', *(name for name, key in CAPABILITIES.items() if key in has)]
                return (f'this processor has no {settings.precision} arithmetic; choose precision '
                        + ', '.join(others))
        return openvino_int8.refusal(settings) if settings.precision == 'int8' else ''

    def prepare(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Turn (H, W, 3) uint8 RGB pictures of any sizes into (N, h, w, C) uint8."""
        return self.preprocessor.crops(frames)

    def forward(self, batch: np.ndarray, taps: tuple[str, ...] = ()) -> Forward:
        """Run (N, h, w, C) uint8; see `Backend.forward`."""
        # Every size of a batch is a network of its own, with weights of its own: of tapped ones,
        # which run a few times a second, only that for one picture is compiled.
        return joined([self._run(part, taps)
                       for part in parts_of(batch, 1 if taps else self._largest)])

    def forget(self, taps: tuple[str, ...]) -> None:
        """Free the compiled networks; see `Backend.forget`."""
        with self._building:
            self._converted.pop(taps, None)
            drop_taps(self._compiled, taps)
            drop_taps(self._in_torch, taps)

    def _run(self, batch: np.ndarray, taps: tuple[str, ...]) -> Forward:
        key = (batch.shape[0], taps)
        if module := self._in_torch.get(key):
            return self._forward_in_torch(module, batch)
        try:
            compiled = self._compiled.get(key) or self._compile(*key)
            request = compiled.request
        except (RuntimeError, TypeError, NotImplementedError) as error:
            LOGGER.warning('openvino cannot compile the network for %d picture(s) with layers %s, '
                           'torch runs it: %s', batch.shape[0], list(taps), last_line(error))
            module = self._in_torch[key] = self.tapped(taps)
            return self._forward_in_torch(module, batch)
        # Shared inputs are read in place; the outputs are copies, so that the request is free.
        results = request.infer([batch], share_inputs=True, share_outputs=False)
        logits, *values = results.to_tuple()
        return logits, dict(zip(taps, values))

    def _forward_in_torch(self, module: nn.Module, batch: np.ndarray) -> Forward:
        with TRACING.passing(), torch.inference_mode():
            pictures = torch.from_numpy(batch).permute(0, 3, 1, 2)  # (N, C, h, w)
            logits, activations = module(self.preprocessor.normalise(pictures))
            return logits.numpy(), {name: values.numpy() for name, values in activations.items()}

    def _compile(self, size: int, taps: tuple[str, ...]) -> Compiled:
        """Return the network compiled for a batch size and taps, compiling it at most once."""
        with self._building:
            if (size, taps) not in self._compiled:
                self._compiled[size, taps] = Compiled(self._core.compile_model(
                    self._model(size, taps), 'CPU', self._options))
            return self._compiled[size, taps]

    def _model(self, size: int, taps: tuple[str, ...]) -> Any:
        preprocessing = self.preprocessor.preprocessing
        shape = (size, preprocessing.channels, *preprocessing.crop)
        if taps not in self._converted:
            model = self._converted_for(taps, shape)
            if self.precision == 'int8' and not taps:
                model = openvino_int8.quantise(model, [
                    self.prepare([frame]) for frame in self.settings.calibration],
                    self.settings.cache_dir)
            self._converted[taps] = model
        model = resized(self._converted[taps], size)
        return self._converted_for(taps, shape) if model is None else model

    def _converted_for(self, taps: tuple[str, ...], shape: tuple[int, ...]) -> Any:
        model = convert(self.tapped(taps), shape)
        if self.precision == 'bfloat16':
            round_constants(model)
        return with_normalisation(model, self.preprocessor.preprocessing)


def resized(model: Any, size: int) -> Any | None:
    """Return a copy for `size` pictures, None if the graph holds the size it was traced with."""
    model = model.clone()
    rest = list(model.inputs[0].partial_shape)[1:]  # h, w, C
    try:
        model.reshape([size, *rest])
    except RuntimeError:
        return None
    return model if model.outputs[0].partial_shape[0] == size else None
