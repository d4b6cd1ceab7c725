"""The reference engine: PyTorch in eager mode, on the CPU or a CUDA device."""

from __future__ import annotations

from cnn_perception.backends.tapping import TappedNetwork
import torch
from torch import nn

__all__ = ['TorchBackend']


class TorchBackend:
    """Runs a module, and, for tapped layers, a module derived from it with several outputs."""

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        """Move the module to the device; channels-last is what convolutions read fastest."""
        self.device = device
        self._module = module.eval().requires_grad_(False).to(device).to(
            memory_format=torch.channels_last)
        self._traced: TappedNetwork | None = None
        self._tapped: dict[tuple[str, ...], nn.Module] = {}

    def layer_names(self) -> list[str]:
        """List every layer that can be tapped, in the order of the forward pass."""
        if self._traced is None:
            self._traced = TappedNetwork(self._module)
        return self._traced.layer_names

    def forward(self, batch: torch.Tensor, taps: tuple[str, ...] = ()
                ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Run (N, C, h, w) float32 pictures.

        Returns (N, K) logits and, for each tap, that layer's activation, (N, C, h, w) or (N, F).
        An unknown tap raises ValueError with near matches.
        """
        with torch.inference_mode():
            batch = batch.to(self.device, memory_format=torch.channels_last)
            if not taps:
                return self._module(batch), {}
            return self._tapped_module(taps)(batch)

    def _tapped_module(self, taps: tuple[str, ...]) -> nn.Module:
        if taps not in self._tapped:
            if self._traced is None:
                self._traced = TappedNetwork(self._module)
            self._tapped[taps] = self._traced.derive(taps)
        return self._tapped[taps]
