"""The ways in which a GPU can run one and the same network, and which is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
import contextlib
from dataclasses import dataclass
import logging
import math
import statistics
from typing import cast

from cnn_perception.backends.base import first_line
from cnn_perception.backends.cuda_graphs import Recorded
from cnn_perception.backends.folding import folded
from cnn_perception.backends.fusing import fused, multiplied
from cnn_perception.backends.half import whole_precision
from cnn_perception.backends.tapping import TappedNetwork
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import fx, nn

__all__ = ['Candidate', 'fastest', 'noise', 'others', 'PICTURES', 'variants']

LOGGER = logging.getLogger(__name__)
# Replays that are timed together, and how often.
REPLAYS, ROUNDS = 10, 5
# Candidates that are timed: what comes later has not been faster anywhere yet.
ENOUGH = 2
# How far answers may lie apart, as a share of their size: another network's are off by far more.
AGREEMENT = {'float32': 1e-3, 'float16': 0.05, 'bfloat16': 0.2}
# So many times as large as others, a logit is a mask: its class is the answer, or never.
MASK = 1e4
# Pictures to compare on. More than one, as a map could be added that fits one alone, and no number
# that is ever recorded: cuDNN keeps the algorithms that it has guessed for a shape here, and would
# try none for the recording.
PICTURES = 3


@dataclass(frozen=True)
class Candidate:
    """A network that runs and answers rightly, its recording, and the seconds of a replay."""

    network: nn.Module
    recorded: Recorded
    seconds: float


def others(module: nn.Module, place: Callable[[nn.Module], nn.Module], dtype: torch.dtype,
           traced: Callable[[], TappedNetwork]) -> list[nn.Module]:
    """
    List networks that do the same as a module in fewer kernels, those first that promise more.

    place: copies a network to the GPU, in `dtype`. traced: gives the module there, traced, where
    it can be.
    """
    # In float32, on an H200, fusing is between 7 % slower and 4 % faster with one picture.
    fuse = dtype != torch.float32
    if (plain := folded(module)) is not None:
        plain = cast('fx.GraphModule', place(plain))
        # Biases that torch adds and rounds by themselves: too much is lost in bfloat16.
        return [*variants(plain, fuse), *([] if dtype == torch.bfloat16 else [plain])]
    try:
        return [*variants(traced().derive(()), fuse)]
    except ValueError:  # it cannot be traced
        return []


def variants(network: fx.GraphModule, fuse: bool) -> Iterator[fx.GraphModule]:
    """
    Yield networks that do the same in fewer kernels, those first that promise more.

    network: without taps, on the GPU; they share its weights. fuse: let cuDNN fuse convolutions.
    """
    for fusing, multiplying in ((True, True), (True, False), (False, True)):
        if fusing and not fuse:
            continue
        variant = copied(network)
        counts = (fused(variant) if fusing else 0, multiplied(variant) if multiplying else 0)
        if all(count for count, wanted in zip(counts, (fusing, multiplying)) if wanted):
            yield variant


def fastest(networks: Sequence[nn.Module], pictures: torch.Tensor, precision: str,
            record: Callable[[nn.Module], Recorded], stream: torch.cuda.Stream) -> Candidate:
    """
    Record networks for one picture and return the fastest of the first two that are right.

    networks: all others have to agree with the last one, on `pictures` (PICTURES, C, h, w).
    record: for one picture. stream: to replay on. Raises what the last one raises where it does
    not run.
    """
    last = networks[-1]
    right = None
    with contextlib.suppress(Exception):  # networks raise what their authors like
        right = answers(last, pictures)
    if right is None:
        # It may be written for one picture, and then runs with one at a time.
        pictures = pictures[:1]
        right = answers(last, pictures)
    found: list[Candidate] = []
    for network in networks:
        try:
            if network is not last:
                check(answers(network, pictures), right, AGREEMENT[precision])
            recorded = record(network)
            found.append(Candidate(network, recorded, seconds(recorded, stream)))
        except Exception as error:
            if network is last and not found:
                raise
            LOGGER.info('one way to run the network on the GPU is passed over: %s',
                        first_line(error))
        if len(found) == ENOUGH:
            break
    # Of those that cannot be recorded, the one that is changed least.
    return min(reversed(found), key=lambda candidate: candidate.seconds)


def answers(network: nn.Module, pictures: torch.Tensor) -> torch.Tensor:
    """Run (N, C, h, w) as it is, unrecorded: (N, K) float64 logits."""
    # With one picture, the recording goes on with the algorithms that are found here.
    with TRACING.passing(), whole_precision(choose=len(pictures) == 1), torch.inference_mode():
        return network(pictures)[0].double()


def check(found: torch.Tensor, right: torch.Tensor, tolerance: float) -> None:
    """Raise RuntimeError where logits (N, K) are not the right ones."""
    if found.shape != right.shape:
        raise RuntimeError(f'its answers are {tuple(found.shape)} instead of '
                           f'{tuple(right.shape)}')
    # A class that never comes has minus infinity, or some number so large that beside it any
    # other answer would be right.
    sizes = right[right.isfinite()].abs()
    # Of a quarter of them, as there may be many masks, and not below what logits usually are.
    usual = max(1.0, float(sizes.quantile(0.25))) if len(sizes) else 1.0
    masks = masks_of(right, MASK * usual)
    if not torch.equal(masks, masks_of(found, MASK * usual)):
        raise RuntimeError('it masks other classes')
    distance = float((found - right)[masks == 0].norm())
    if distance > tolerance * float(right[masks == 0].norm()):
        raise RuntimeError(f'its answers are off by {distance:.2g}')


def masks_of(logits: torch.Tensor, limit: float) -> torch.Tensor:
    """Return 0 for each logit that says how likely its class is, else which mask it is."""
    signs = (logits > limit).int() - (logits < -limit).int()
    return torch.where(logits.isnan(), 2, signs)


def noise(shape: tuple[int, ...]) -> torch.Tensor:
    """Return pictures (N, C, h, w) float32 of normally distributed numbers, always the same."""
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    return torch.from_numpy(values).contiguous(memory_format=torch.channels_last)


def seconds(recorded: Recorded, stream: torch.cuda.Stream) -> float:
    """Time a replay on the GPU; infinity for what could not be recorded."""
    if recorded.failure:
        return math.inf
    times = []
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(ROUNDS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(REPLAYS):
                recorded()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / (1000.0 * REPLAYS))
    return statistics.median(times)


def copied(network: fx.GraphModule) -> fx.GraphModule:
    """Return a network with a graph and containers of its own, and the same layers."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(network.graph, {}))
    return fx.GraphModule(network, graph).eval()
