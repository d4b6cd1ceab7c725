"""
NVIDIA GPUs: static shapes recorded as CUDA graphs, half precision, everything on the GPU.

The uint8 pictures go to the GPU from pinned memory; resizing, crop and normalisation are one
recording for each (pictures, height, width), the network one for each (pictures, taps), with
batch normalisation folded in where nothing is tapped. Choosing cuDNN's algorithms takes seconds
for each number of pictures, so only powers of two are recorded. All work is queued on one stream
of the engine's own, by one thread at a time: a lock is held from the upload to the queued copy
into a new batch, and from there to the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
import copy
import threading

from cnn_perception.backends.base import (
    Backend, CompileError, drop_taps, DTYPES, Forward, joined, parts_of, Settings)
from cnn_perception.backends.cuda_graphs import Function, PinnedOutputs, Recorded, Staging
from cnn_perception.backends.folding import folded
from cnn_perception.backends.half import half_module
from cnn_perception.backends.selection import LOGGER, register
from cnn_perception.backends.tapping import TRACING
from cnn_perception.preprocess import Preprocessing
import numpy as np
import torch
from torch import nn

__all__ = ['CudaBackend', 'by_size']

# Every recording keeps its pictures' memory; beyond this many shapes new ones are not recorded.
MOST_RECORDINGS = 128


@register('cuda', devices=('cuda',))
class CudaBackend(Backend):
    """Runs a network on a GPU with one launch for a batch."""

    records = True

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Copy the network to the GPU in the wanted type, and record it for one picture."""
        self.dtype = DTYPES[settings.precision]
        try:
            super().__init__(self._placed(module, settings), preprocessing, settings)
            plain = folded(module) if self.records else None
            self._plain = self._placed(plain, settings) if plain is not None else None
            self._lock = threading.RLock()
            self._stream = torch.cuda.Stream(settings.device)
            # The weights are still on their way, on the stream that everybody shares.
            self._stream.wait_stream(torch.cuda.current_stream(settings.device))
            self._pool = torch.cuda.graph_pool_handle()
            self._readers: dict[tuple[int, int, int], tuple[Staging, Recorded]] = {}
            self._networks: dict[tuple[int, tuple[str, ...]],
                                 tuple[Recorded, PinnedOutputs]] = {}
            black = np.zeros((*preprocessing.crop, 3), np.uint8)
            self.forward(self.prepare([black]))
        except RuntimeError as error:
            raise CompileError(str(error).strip().partition('\n')[0]) from error

    def prepare(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """
        Upload (H, W, 3) uint8 RGB pictures of any sizes and make the network's input of them.

        Returns (N, C, h, w) of the engine's type, normalised, on the GPU; still being computed.
        """
        preprocessing = self.preprocessor.preprocessing
        shape = (len(frames), preprocessing.channels, *preprocessing.crop)
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            batch = torch.empty(shape, dtype=self.dtype, device=self.device,
                                memory_format=torch.channels_last)
            for (height, width), indices in by_size(frames).items():
                for places in parts_of(indices):
                    staging, reader = self._reader(len(places), height, width)
                    staging.upload([frames[place] for place in places], reader.input)
                    [pictures] = reader()
                    if len(places) == len(frames):
                        batch.copy_(pictures)
                        continue
                    for slot, place in enumerate(places):
                        batch[place].copy_(pictures[slot])
            return batch

    def forward(self, batch: torch.Tensor, taps: tuple[str, ...] = ()) -> Forward:
        """Run (N, C, h, w) as `prepare` returns it; see `Backend.forward`."""
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._stream):
            return joined([self._run(part, taps) for part in parts_of(batch)])

    def forget(self, taps: tuple[str, ...]) -> None:
        """Free the recordings; see `Backend.forget`."""
        with self._lock:
            drop_taps(self._networks, taps)

    def converted(self, module: nn.Module) -> nn.Module:
        """Return a copy of the network in the engine's type."""
        if self.dtype == torch.float32:
            return copy.deepcopy(module)
        return half_module(module, self.dtype)

    def function(self, size: int, taps: tuple[str, ...]) -> Function:
        """Return what runs `size` pictures (N, C, h, w): (logits, *activations), float32."""
        module = self.tapped(taps) if taps or self._plain is None else self._plain

        def run(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
            logits, activations = module(batch)
            return tuple(values.float().contiguous()
                         for values in (logits, *activations.values()))
        return run

    def _placed(self, module: nn.Module, settings: Settings) -> nn.Module:
        return self.converted(module).to(settings.device).to(memory_format=torch.channels_last)

    def _run(self, batch: torch.Tensor, taps: tuple[str, ...]) -> Forward:
        network, pinned = self._network(batch, taps)
        network.input.copy_(batch)
        logits, *values = (part.numpy() for part in pinned.download(network()))
        return logits, dict(zip(taps, values))

    def _network(self, batch: torch.Tensor, taps: tuple[str, ...]
                 ) -> tuple[Recorded, PinnedOutputs]:
        key = (batch.shape[0], taps)
        if key not in self._networks:
            with TRACING:  # recording runs the module, which a trace elsewhere would catch
                network = self._recorded(self.function(*key), batch.clone())
                self._networks[key] = network, PinnedOutputs(network())
        return self._networks[key]

    def _reader(self, count: int, height: int, width: int) -> tuple[Staging, Recorded]:
        key = (count, height, width)
        if key not in self._readers:
            pictures = torch.zeros((count, height, width, 3), dtype=torch.uint8,
                                   device=self.device)
            self._readers[key] = Staging(*key), self._recorded(self._read, pictures)
        return self._readers[key]

    def _read(self, pictures: torch.Tensor) -> tuple[torch.Tensor]:
        """Turn (N, H, W, 3) uint8 into (N, C, h, w) of the engine's type, normalised."""
        levels = self.preprocessor.levels(pictures.permute(0, 3, 1, 2))
        return (self.preprocessor.normalise(levels).to(
            self.dtype, memory_format=torch.channels_last),)

    def _recorded(self, function: Function, example: torch.Tensor) -> Recorded:
        full = len(self._readers) + len(self._networks) >= MOST_RECORDINGS
        made = Recorded(function, example, self._stream, self._pool,
                        record=self.records and not full, exact=self.precision == 'float32')
        if made.failure:
            # A pool that a failed recording has touched is not used again.
            self._pool = torch.cuda.graph_pool_handle()
            if not self.notes:
                LOGGER.warning('backend %s runs without a CUDA graph, because recording failed: '
                               '%s', self.name, made.failure)
            self.notes = f'without a CUDA graph, because recording failed: {made.failure}'
        return made


def by_size(frames: Sequence[np.ndarray]) -> dict[tuple[int, int], list[int]]:
    """Return the indices of the pictures of each (height, width), in order."""
    places: dict[tuple[int, int], list[int]] = {}
    for index, frame in enumerate(frames):
        places.setdefault((frame.shape[0], frame.shape[1]), []).append(index)
    return places
