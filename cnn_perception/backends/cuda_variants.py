"""The ways in which a GPU can run one and the same network, and which is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
import itertools
import math
import statistics

from cnn_perception.backends.base import first_line
from cnn_perception.backends.cuda_graphs import Recorded
from cnn_perception.backends.fusing import fused, multiplied
from cnn_perception.backends.selection import LOGGER
import torch
from torch import fx, nn

__all__ = ['fastest', 'variants']

# Replays that are timed together, and how often.
REPLAYS, ROUNDS = 10, 5


def variants(network: fx.GraphModule, fuse: bool) -> Iterator[fx.GraphModule]:
    """
    Yield networks that answer alike and share their weights, those first that promise more.

    network: without taps, on the GPU; it is the last one. fuse: let cuDNN fuse convolutions.
    """
    for fusing, multiplying in itertools.product([True, False] if fuse else [False],
                                                 [True, False]):
        variant = copied(network)
        counts = (fused(variant) if fusing else 0, multiplied(variant) if multiplying else 0)
        if all(count for count, wanted in zip(counts, (fusing, multiplying)) if wanted):
            yield variant


def fastest(networks: Iterable[nn.Module], record: Callable[[nn.Module], Recorded],
            stream: torch.cuda.Stream, enough: int = 2) -> nn.Module:
    """
    Record networks for one picture and return the fastest of the first few that run at all.

    record: raises RuntimeError where a network does not run. stream: to replay on. Raises
    RuntimeError, with the reason of the last one, where none runs.
    """
    times: list[tuple[float, nn.Module]] = []
    problem = RuntimeError('there is no network to choose from')
    for network in networks:
        try:
            times.append((seconds(record(network), stream), network))
        except RuntimeError as error:
            LOGGER.info('one way to run the network on the GPU fails: %s', first_line(error))
            problem = error
        if len(times) == enough:
            break
    if not times:
        raise problem
    return min(times, key=lambda pair: pair[0])[1]


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
