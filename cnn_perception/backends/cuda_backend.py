"""
NVIDIA GPUs: static shapes recorded as CUDA graphs, half precision, everything on the GPU.

The uint8 pictures go to the GPU from pinned memory; resizing, crop and normalisation are one
recording for each (pictures, height, width), the network one for each (pictures, taps), in the
fastest of several ways (`cuda_variants`) where nothing is tapped. Choosing cuDNN's algorithms
takes seconds for each number of pictures, so only powers of two are recorded, and tapped networks
for one picture. A lock lets one thread at a time queue work on the engine's stream, from upload to
answer; another may record meanwhile, on a stream of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import copy
import logging
import threading
import time
from typing import TypeVar

from cnn_perception.backends.base import (
    Backend, channels_last, CompileError, drop_taps, DTYPES, first_line, Settings)
from cnn_perception.backends.batches import (
    by_size, Forward, joined, LARGEST, room_for, roomy_parts)
from cnn_perception.backends.cuda_graphs import (
    answer, Function, in_float32, PinnedOutputs, Recorded, Recorder, Staging)
from cnn_perception.backends.cuda_variants import fastest, noise, others, PICTURES
from cnn_perception.backends.half import half_module
from cnn_perception.backends.selection import register
from cnn_perception.devices import ran_out
from cnn_perception.preprocess import Preprocessing
from cnn_perception.preprocessor import MOST_READERS
import numpy as np
import torch
from torch import nn

__all__ = ['CudaBackend']

LOGGER = logging.getLogger(__name__)
# Beyond this many networks new ones are not recorded.
MOST_RECORDINGS = 128
Host = TypeVar('Host', Staging, PinnedOutputs)


@register('cuda', devices=('cuda',))
class CudaBackend(Backend):
    """Runs a network on a GPU with one launch for a batch."""

    records = True

    def __init__(self, module: nn.Module, preprocessing: Preprocessing,
                 settings: Settings) -> None:
        """Copy the network to the GPU in the wanted type, and record it for one picture."""
        self.dtype, self.device = DTYPES[settings.precision], settings.device
        try:
            super().__init__(self._placed(module), preprocessing, settings)
            self._lock, self._building = threading.Lock(), threading.Lock()
            self._record, self._largest = Recorder(settings.device), LARGEST
            self._record.await_weights()
            self._readers: dict[tuple[int, int, int], tuple[Staging, Recorded]] = {}
            self._used: dict[tuple[int, int, int], float] = {}
            self._networks: dict[tuple[int, tuple[str, ...]],
                                 tuple[Recorded, PinnedOutputs]] = {}
            self._records = self.records
            self._plain = self._untapped(module) if self._records else None
            self.forward(self.prepare([np.zeros((*preprocessing.crop, 3), np.uint8)]))
        except Exception as error:  # networks raise what their authors like
            raise CompileError(first_line(error)) from error

    def prepare(self, frames: Sequence[np.ndarray]) -> torch.Tensor:
        """
        Upload (H, W, 3) uint8 RGB pictures of any sizes and make the network's input of them.

        Returns (N, C, h, w) of the engine's type, normalised, on the GPU; still being computed.
        """
        shape, parts = self._shape(len(frames)), self._parts(frames)
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._record.stream):
            batch = torch.empty(shape, dtype=self.dtype, device=self.device,
                                memory_format=torch.channels_last)
            for places, staging, reader in parts:
                staging.upload([frames[place] for place in places])
                [pictures] = reader()
                if len(places) == len(frames):
                    batch.copy_(pictures[:len(places)])
                    continue
                for slot, place in enumerate(places):
                    batch[place].copy_(pictures[slot])
            return batch

    def forward(self, batch: torch.Tensor, taps: tuple[str, ...] = ()) -> Forward:
        """Run (N, C, h, w) as `prepare` returns it; see `Backend.forward`."""
        while True:
            parts = roomy_parts(batch, 1 if taps else self._largest)
            try:
                return joined([self._run(part, taps) for part in parts])
            except CompileError as error:
                self._run_fewer(len(parts[0]), error)

    def forward_pictures(self, frames: Sequence[np.ndarray], taps: tuple[str, ...] = ()
                         ) -> Forward:
        """Prepare and run pictures, those of one size without a batch of their own in between."""
        count, sizes = len(frames), by_size(frames)
        if len(sizes) > 1 or len(roomy_parts(frames, 1 if taps else self._largest)) > 1:
            return super().forward_pictures(frames, taps)
        [size] = sizes
        with contextlib.suppress(CompileError):
            staging, reader = self._reader(room_for(count), *size)
            network, pinned = self._network(room_for(count), taps)
            with self._lock, torch.inference_mode(), torch.cuda.stream(self._record.stream):
                staging.upload(frames)
                network.input.copy_(reader()[0])
                return answer(network, pinned, count, taps)
        return super().forward_pictures(frames, taps)  # now that nothing is held of what failed

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
        return in_float32(self.tapped(taps) if taps or self._plain is None else self._plain)

    def _shape(self, count: int) -> tuple[int, ...]:
        preprocessing = self.preprocessor.preprocessing
        return count, preprocessing.channels, *preprocessing.crop

    def _placed(self, module: nn.Module) -> nn.Module:
        return channels_last(self.converted(module).to(self.device))

    def _untapped(self, module: nn.Module) -> nn.Module | None:
        """Find the fastest way to run it without taps and keep the recording; None for its own."""
        networks = [*others(module, self._placed, self.dtype, self.traced), self.tapped(())]
        if len(networks) == 1:
            return None
        self._record.await_weights()
        found = fastest(
            networks, noise(self._shape(PICTURES)).to(self.device, self.dtype), self.precision,
            lambda network: self._record(in_float32(network), self._shape(1), self.dtype),
            self._record.stream)
        self._tell(found.recorded)
        self._records = not found.recorded.failure
        self._networks[1, ()] = found.recorded, PinnedOutputs(found.recorded.shapes)
        return found.network

    def _parts(self, frames: Sequence[np.ndarray]
               ) -> list[tuple[list[int], Staging, Recorded]]:
        """Return (places, staging, reader) for each part of a batch."""
        count = 1
        while True:
            parts = []
            try:
                for size, indices in by_size(frames).items():
                    for places in roomy_parts(indices, self._largest):
                        count = len(places)
                        parts.append((places, *self._reader(room_for(count), *size)))
            except CompileError as error:
                self._run_fewer(count, error)
            else:
                return parts

    def _run_fewer(self, count: int, error: CompileError) -> None:
        """Halve what runs at once after `count` pictures have failed; raise for a single one."""
        if count == 1:
            raise error
        self._largest = room_for(count) // 2
        LOGGER.warning('backend %s runs at most %d picture(s) at once, because more failed: %s',
                       self.name, self._largest, error)

    def _run(self, batch: torch.Tensor, taps: tuple[str, ...]) -> Forward:
        count = len(batch)
        network, pinned = self._network(room_for(count), taps)
        with self._lock, torch.inference_mode(), torch.cuda.stream(self._record.stream):
            network.input[:count].copy_(batch)
            return answer(network, pinned, count, taps)

    def _network(self, size: int, taps: tuple[str, ...]) -> tuple[Recorded, PinnedOutputs]:
        """Return the recording for a number of pictures; CompileError where there can be none."""
        key = (size, taps)
        if found := self._networks.get(key):
            return found
        shape = self._shape(size)
        with self._building:
            if found := self._networks.get(key):
                return found
            found = self._recorded(
                self.function(*key), shape, self.dtype, lambda made: PinnedOutputs(made.shapes),
                self._records and len(self._networks) < MOST_RECORDINGS)
            # What failed once would fail again, and take its memory with it each time.
            self._records &= not found[0].failure or ran_out(found[0].failure)
            self._networks[key] = found
            return found

    def _reader(self, count: int, height: int, width: int) -> tuple[Staging, Recorded]:
        """Return what makes (N, C, h, w), normalised, of (N, H, W, 3) uint8 on the GPU."""
        key = (count, height, width)
        if found := self._readers.get(key):
            self._used[key] = time.monotonic()
            return found
        with self._building:
            if found := self._readers.get(key):
                return found
            reader, shape = self.preprocessor.reader(height, width), self._shape(count)
            # Without this engine itself, which has it: a cycle would outlive the engine.
            dtype, normalise = self.dtype, self.preprocessor.normalise

            def read(pictures: torch.Tensor) -> tuple[torch.Tensor]:
                batch = torch.empty(shape, dtype=dtype, device=pictures.device,
                                    memory_format=torch.channels_last)
                return (normalise(reader.levels(pictures), out=batch),)
            seen = [len(range(*part.indices(side)))
                    for part, side in zip(reader.window, (height, width))]
            made, staging = self._recorded(read, (count, *seen, 3), torch.uint8,
                                           lambda made: Staging(reader.window, made.input))
            found = staging, made
            if len(self._readers) >= MOST_READERS:
                # Nobody queues work meanwhile, and all that was queued is done.
                with self._lock:
                    self._record.stream.synchronize()
                    oldest = min(self._readers, key=lambda kept: self._used.get(kept, 0.0))
                    del self._readers[oldest]
                    self._used.pop(oldest, None)
            self._used[key] = time.monotonic()
            self._readers[key] = found
            return found

    def _recorded(self, function: Function, shape: tuple[int, ...], dtype: torch.dtype,
                  host: Callable[[Recorded], Host], record: bool = True) -> tuple[Recorded, Host]:
        """Record a function, with its memory on the host; CompileError where it does not run."""
        try:
            made = self._record(function, shape, dtype, record)
            memory = host(made)
        except RuntimeError as error:
            raise CompileError(first_line(error)) from error
        self._tell(made)
        return made, memory

    def _tell(self, made: Recorded) -> None:
        if made.failure:
            before = self.notes
            self.notes = f'without a CUDA graph, because recording failed: {made.failure}'
            if not before:
                LOGGER.warning('backend %s runs %s', self.name, self.notes)
