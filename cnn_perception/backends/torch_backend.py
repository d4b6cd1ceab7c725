"""The reference engine: PyTorch in eager mode, on the CPU or a CUDA device."""

from __future__ import annotations

import threading

from cnn_perception.backends.base import Backend, channels_last, DTYPES, Settings
from cnn_perception.backends.batches import Forward, Tapped
from cnn_perception.backends.half import half_module, whole_precision
from cnn_perception.backends.selection import register
from cnn_perception.preprocess import Preprocessing
from cnn_perception.processor import physical_cores
from cnn_perception.turns import TRACING
import torch
from torch import nn

__all__ = ['TorchBackend']

PASS = threading.RLock()


@register('torch')
class TorchBackend(Backend):
    """
    Runs a module, and, for tapped layers, a module derived from it with several outputs.

    A lock of the process lets one thread at a time through: two forward passes on the same cores
    gain nothing.
    """

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Move the module to the device; channels-last is what convolutions read fastest."""
        # Others read the float32 weights; only a change of type needs weights of its own.
        if settings.precision != 'float32':
            module = half_module(module, DTYPES[settings.precision])
        own = channels_last(module.to(settings.device))
        super().__init__(own, preprocessing, settings)
        self._tapped: dict[tuple[str, ...], nn.Module] = {}
        self._threads = 0
        if settings.device.type == 'cpu':
            self._threads = settings.threads or physical_cores()
            # Set in any case, as torch keeps it for the whole process.
            torch.set_num_threads(self._threads)

    @classmethod
    def refusal(cls, settings: Settings) -> str:
        """Say that float16 is of no use on this processor, if so."""
        if settings.device.type == 'cpu' and settings.precision == 'float16' and not (
                has_float16()):
            return ('this processor has no float16 arithmetic, and in its place torch takes a '
                    'hundred times as long as in float32; choose precision bfloat16 or float32')
        return ''

    def forward(self, batch: torch.Tensor, taps: tuple[str, ...] = ()) -> Forward:
        """Run (N, C, h, w) float32, normalised; see `Backend.forward`."""
        module = self._tapped.get(taps)
        if module is None:
            module = self._tapped[taps] = self.tapped(taps)
        return self.run(module, batch)

    def forget(self, taps: tuple[str, ...]) -> None:
        """Free the module; see `Backend.forget`."""
        self._tapped.pop(taps, None)

    def run(self, module: Tapped, batch: torch.Tensor) -> Forward:
        """Run a module (N, C, h, w) -> (logits, {tap: activation}) on a prepared batch."""
        with PASS:
            return self.run_beside_others(module, batch)

    def run_beside_others(self, module: Tapped, batch: torch.Tensor) -> Forward:
        """Run as `run` does, while another thread may be running a module too."""
        # A thread takes over what was set when it first used torch: `one_torch_thread`'s, perhaps.
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        with TRACING.passing(), whole_precision(), torch.inference_mode():
            logits, activations = module(batch.to(
                self.device, DTYPES[self.precision], memory_format=torch.channels_last))
            return logits.float().cpu().numpy(), {
                name: values.float().cpu().numpy() for name, values in activations.items()}


def has_float16() -> bool:
    """Tell whether torch's convolutions compute in float16 on this processor."""
    supported = getattr(torch.ops.mkldnn, '_is_mkldnn_fp16_supported', None)
    return supported is None or bool(supported())
