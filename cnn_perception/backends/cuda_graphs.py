"""
Functions of one tensor recorded as CUDA graphs, and host memory that the GPU reads directly.

A recorded function works on fixed addresses: its input is copied in, the recording is replayed,
its outputs are overwritten by the next replay. Whoever calls some that share a pool does so on one
stream and under one lock, and has copied the outputs, on that stream, before the next call. They
are made on another stream, so that others can be called meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
import threading
from typing import Any

from cnn_perception.backends.base import first_line
from cnn_perception.backends.batches import Forward
from cnn_perception.backends.half import whole_precision
from cnn_perception.collector import without_collector
from cnn_perception.turns import TRACING
import numpy as np
import torch

__all__ = ['answer', 'Function', 'in_float32', 'PinnedOutputs', 'Recorded', 'Recorder',
           'RECORDING', 'Staging']

# The first passes choose algorithms and allocate workspaces, neither of which can be recorded.
WARM_UP_PASSES = 3
Function = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
# Older versions of torch keep the memory that cuBLAS works in for each stream. A recording needs
# its own, or what is tried on the recorder's stream would write into it during a replay.
_forget_workspaces: Callable[[], None] = getattr(
    torch._C, '_cuda_clearCublasWorkspaces', lambda: None)
# torch records one thing at a time in a process, and so are its settings the process's.
RECORDING = threading.Lock()
# Ends a recording that was broken off: torch does not, and until then frees no memory that two
# streams have used. It does not promise that this function stays, and has renamed it once.
_end_recording: Callable[[int, Any], None] = getattr(
    torch._C, '_cuda_endAllocateToPool',
    getattr(torch._C, '_cuda_endAllocateCurrentStreamToPool', lambda device, pool: None))
# The allocator may go on asking a recording that failed which memory is its own.
_FAILED: list[torch.cuda.CUDAGraph] = []


class Recorded:
    """
    A function (one tensor of a fixed shape) -> tensors, replayed with a single launch.

    input: the tensor to write to before a call. shapes: those of the outputs. failure: why the
    function is called as it is instead of replayed, '' where it is replayed.
    """

    def __init__(self, function: Function, example: torch.Tensor, stream: torch.cuda.Stream,
                 pool: Any, *, record: bool = True) -> None:
        """
        Warm up and record on `stream`, inside inference mode.

        example: stands for every later input; it becomes `input`. pool: memory shared with other
        recordings made on this stream. Raises RuntimeError where the function does not even run
        unrecorded.
        """
        self.input = example
        self.failure = ''
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[torch.Tensor, ...] = ()
        with RECORDING, torch.cuda.device(example.device), whole_precision(choose=True):
            # The example was written on the caller's stream.
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(WARM_UP_PASSES if record else 1):
                    outputs = function(self.input)
            self.shapes = [values.shape for values in outputs]
            stream.synchronize()
            if record:
                self._record(stream, pool)

    def __call__(self) -> tuple[torch.Tensor, ...]:
        """Run on the current stream, on what `input` holds; returns without waiting."""
        if self._graph is None:
            with TRACING.passing(), whole_precision(choose=True):
                return self._function(self.input)
        self._graph.replay()
        return self._outputs

    def _record(self, stream: torch.cuda.Stream, pool: Any) -> None:
        graph = torch.cuda.CUDAGraph()
        _forget_workspaces()
        try:
            # Only this thread: others may go on allocating on the GPU while this one records. The
            # collector would break it off where it finds another recording that nobody has.
            with without_collector(), torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode='thread_local'):
                self._outputs = self._function(self.input)
        except RuntimeError as error:
            # Of a recording that was broken off, the end reports only that it was.
            self.failure = first_line(error.__context__ or error)
            self._outputs = ()
            with contextlib.suppress(RuntimeError, TypeError):
                _end_recording(self.input.device.index, pool)
            with contextlib.suppress(RuntimeError):
                graph.reset()
            _FAILED.append(graph)
            return
        finally:
            _forget_workspaces()
        self._graph = graph


class Recorder:
    """
    Makes recordings that share memory, and all of which are replayed on `stream`.

    Records on a stream of its own, so that `stream` goes on answering meanwhile; what is made at
    one time is for its caller to keep apart.
    """

    def __init__(self, device: torch.device) -> None:
        """Create the streams and the memory."""
        self.stream = torch.cuda.Stream(device)
        self._device = device
        self._own = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def await_weights(self) -> None:
        """Let both streams wait for what is on its way on the one that everybody shares."""
        for stream in (self.stream, self._own):
            stream.wait_stream(torch.cuda.current_stream(self._device))

    def __call__(self, function: Function, shape: tuple[int, ...], dtype: torch.dtype,
                 record: bool = True) -> Recorded:
        """Record a function of a tensor; see `Recorded`."""
        # Recording runs the module, which a trace elsewhere would catch.
        # Memory of the stream that it is used on: it can be freed with work still queued there.
        with (TRACING.passing(), torch.inference_mode(), torch.cuda.device(self._device),
              torch.cuda.stream(self.stream)):
            example = torch.zeros(shape, dtype=dtype, device=self._device)
            if dtype != torch.uint8:
                example = example.contiguous(memory_format=torch.channels_last)
            made = Recorded(function, example, self._own, self._pool, record=record)
        if made.failure:
            # A pool that a failed recording has touched is not used again.
            self._pool = torch.cuda.graph_pool_handle()
        return made


class Staging:
    """Pinned host memory for the pictures that one tensor of the GPU takes."""

    def __init__(self, window: tuple[slice, slice], target: torch.Tensor) -> None:
        """
        Allocate the memory.

        window: the (rows, columns) of a picture that are taken. target: (N, rows, columns, 3)
        uint8 on the GPU.
        """
        self._window = window
        pinned = torch.empty(target.shape, dtype=torch.uint8, pin_memory=True)
        self._slots = [*zip(pinned.numpy(), pinned, target)]
        self._read = torch.cuda.Event()

    def upload(self, frames: Sequence[np.ndarray]) -> None:
        """
        Copy pictures (H, W, 3) uint8 to the target, on the current stream.

        There may be fewer than there is room for. Each is on its way while the next is copied.
        """
        # The GPU may still be reading the pictures of the last call.
        self._read.synchronize()
        for frame, (array, pinned, target) in zip(frames, self._slots):
            np.copyto(array, frame[self._window])
            target.copy_(pinned, non_blocking=True)
        self._read.record()


class PinnedOutputs:
    """Pinned host memory for the outputs of a network."""

    def __init__(self, shapes: Sequence[torch.Size]) -> None:
        """Allocate float32 memory."""
        self._tensors = [torch.empty(shape, dtype=torch.float32, pin_memory=True)
                         for shape in shapes]
        self._done = torch.cuda.Event()

    def download(self, outputs: tuple[torch.Tensor, ...], count: int) -> list[torch.Tensor]:
        """Copy the first `count` of each output from the GPU and wait; returns copies."""
        for target, values in zip(self._tensors, outputs):
            target[:count].copy_(values[:count], non_blocking=True)
        self._done.record()
        self._done.synchronize()
        return [values[:count].clone() for values in self._tensors]


def in_float32(network: Callable[[torch.Tensor], tuple[torch.Tensor, dict[str, torch.Tensor]]]
               ) -> Function:
    """Return what gives (logits, *activations), float32, of a network with taps."""
    def run(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits, activations = network(batch)
        return tuple(values.float().contiguous() for values in (logits, *activations.values()))
    return run


def answer(network: Recorded, pinned: PinnedOutputs, count: int, taps: tuple[str, ...]) -> Forward:
    """Run what lies in a network's input, on the current stream, and wait for `count` answers."""
    logits, *values = (part.numpy() for part in pinned.download(network(), count))
    return logits, dict(zip(taps, values))
