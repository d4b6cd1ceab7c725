"""
Functions of one tensor recorded as CUDA graphs, and host memory that the GPU reads directly.

A recorded function works on fixed addresses: its input is copied in, the recording is replayed,
its outputs are overwritten by the next replay. Whoever uses one does so on one stream and under
one lock, and has copied the outputs, on that stream, before the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = ['PinnedOutputs', 'Recorded', 'Staging']

# The first passes choose algorithms and allocate workspaces, neither of which can be recorded.
WARM_UP_PASSES = 3
Function = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


class Recorded:
    """
    A function (one tensor of a fixed shape) -> tensors, replayed with a single launch.

    input: the tensor to write to before a call. failure: why the function is called as it is
    instead of replayed, '' where it is replayed.
    """

    def __init__(self, function: Function, example: torch.Tensor, stream: torch.cuda.Stream,
                 pool: Any, *, record: bool = True, exact: bool = False) -> None:
        """
        Warm up and record on `stream`, inside inference mode.

        example: stands for every later input; it becomes `input`. pool: memory shared with the
        other recordings of this stream. exact: no TF32 in convolutions. Raises RuntimeError where
        the function does not even run unrecorded.
        """
        self.input = example
        self.failure = ''
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()
        self._exact = exact
        with torch.cuda.device(example.device), self._algorithms():
            # The example was written on the caller's stream.
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_PASSES if record else 1):
                    function(self.input)
            stream.synchronize()
            if record:
                self._record(stream, pool)

    def __call__(self) -> tuple[torch.Tensor, ...]:
        """Run on the current stream, on what `input` holds; returns without waiting."""
        if self._graph is None:
            with self._algorithms():
                return self._function(self.input)
        self._graph.replay()
        return self._outputs

    def _record(self, stream: torch.cuda.Stream, pool: Any) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Only this thread: others may go on allocating on the GPU while this one records.
            with torch.cuda.graph(graph, pool=pool, stream=stream,
                                  capture_error_mode='thread_local'):
                self._outputs = self._function(self.input)
        except RuntimeError as error:
            self.failure = str(error).strip().partition('\n')[0]
            self._outputs = ()
            return
        self._graph = graph

    def _algorithms(self) -> Any:
        # For fixed shapes it pays to try cuDNN's algorithms; the recording keeps the fastest.
        return torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False,
                                          allow_tf32=not self._exact)


class Staging:
    """Pinned host memory for pictures of one size: (N, H, W, 3) uint8."""

    def __init__(self, count: int, height: int, width: int) -> None:
        """Allocate the memory."""
        self._tensor = torch.empty((count, height, width, 3), dtype=torch.uint8, pin_memory=True)
        self._array = self._tensor.numpy()
        self._read = torch.cuda.Event()

    def upload(self, frames: list[np.ndarray], target: torch.Tensor) -> None:
        """Copy N pictures (H, W, 3) uint8 to a tensor of the GPU, on the current stream."""
        # The GPU may still be reading the pictures of the last call.
        self._read.synchronize()
        for slot, frame in enumerate(frames):
            np.copyto(self._array[slot], frame)
        target.copy_(self._tensor, non_blocking=True)
        self._read.record()


class PinnedOutputs:
    """Pinned host memory for the outputs of a network."""

    def __init__(self, outputs: tuple[torch.Tensor, ...]) -> None:
        """Allocate float32 memory of the outputs' shapes."""
        self._tensors = [torch.empty(values.shape, dtype=torch.float32, pin_memory=True)
                         for values in outputs]
        self._done = torch.cuda.Event()

    def download(self, outputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Copy outputs from the GPU, on the current stream, and wait; returns copies."""
        for target, values in zip(self._tensors, outputs):
            target.copy_(values, non_blocking=True)
        self._done.record()
        self._done.synchronize()
        return [values.clone() for values in self._tensors]
