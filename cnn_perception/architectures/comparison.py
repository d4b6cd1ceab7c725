"""
Networks side by side: accuracy, parameters, multiply-adds, and latency measured here.

Accuracies are those that torchvision publishes for its weights (ImageNet, one crop, top 1). They
depend on the training recipe as much as on the network; the first weights of each network are
compared, whose recipes resemble each other, unless the best are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
import csv
from dataclasses import asdict, dataclass
import io
import json
import statistics
import time
from typing import Any

from cnn_perception.processor import processor_name
from cnn_perception.quick_imports import torchvision
import torch
from torch import nn

from .catalogue import create, source
from .errors import ArchitectureError, did_you_mean, shape_text, shown
from .layer_table import describe
from .table_text import aligned, count_text, markdown

__all__ = ['Comparison', 'Compared', 'compare', 'measure_latencies']

WEIGHTS = ('first', 'best')
_WARM_UP = 3
_HEADINGS = ('network', 'input', 'weights', 'top-1 %', 'parameters', 'multiply-adds', 'ms')


@dataclass(frozen=True)
class Compared:
    """
    One network: weights and top-1 accuracy in percent where torchvision has them.

    input_shape is (C, H, W); multiply_adds are for one image, latency_ms is the median time of
    one image in milliseconds, None if it was not measured.
    """

    network: str
    input_shape: tuple[int, ...]
    weights: str | None
    accuracy: float | None
    parameters: int
    multiply_adds: int
    latency_ms: float | None


@dataclass(frozen=True)
class Comparison:
    """Several networks and, where latency was measured, the machine it was measured on."""

    networks: tuple[Compared, ...]
    machine: str | None

    def to_text(self) -> str:
        """Return aligned columns for a terminal, and the machine below them."""
        lines = aligned(self._columns(), left=1)
        rule = '-' * max(map(len, lines))
        return '\n'.join([lines[0], rule, *lines[1:], rule, *self._notes()]) + '\n'

    def to_markdown(self) -> str:
        """Return a GitHub table, and the machine below it."""
        lines = markdown(self._columns(), 1)
        return '\n'.join([*lines, '', *(f'{note}  ' for note in self._notes())]) + '\n'

    def to_csv(self) -> str:
        """Return one line a network with a header (RFC 4180); what is unknown is empty."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(('network', 'input', 'weights', 'accuracy', 'parameters', 'multiply_adds',
                         'latency_ms'))
        writer.writerows(
            (row.network, shape_text(row.input_shape).replace(' ', ''), row.weights, row.accuracy,
             row.parameters, row.multiply_adds, row.latency_ms) for row in self.networks)
        return text.getvalue()

    def to_json(self) -> str:
        """Return {machine, networks} as JSON; what is unknown is null."""
        return json.dumps({'machine': self.machine,
                           'networks': [asdict(row) for row in self.networks]}, allow_nan=False)

    def _columns(self) -> list[tuple[str, ...]]:
        rows = [_HEADINGS, *map(_cells, self.networks)]
        return rows if self.machine else [row[:-1] for row in rows]

    def _notes(self) -> list[str]:
        notes = ["top-1 %: ImageNet accuracy of these weights, from torchvision's metadata"]
        if self.machine:
            notes.append(f'ms: one image, median of interleaved runs, {self.machine}')
        return notes


def compare(names: Sequence[str], latency: bool = True, rounds: int = 10,
            weights: str = 'first') -> Comparison:
    """
    Compare networks by name, each once and with the input it was made for.

    latency measures them on this machine's processor, `rounds` times each. weights says whose
    accuracy is given: torchvision's 'first' for the network or its 'best', of those made for the
    same input. Raises ArchitectureError for unknown names and options that mean nothing.
    """
    if weights not in WEIGHTS:
        raise ArchitectureError(f'weights: got {shown(weights)}, expected first or best.'
                                f'{did_you_mean(weights, WEIGHTS)}')
    if type(rounds) is not int or rounds < 1:
        raise ArchitectureError(f'rounds: got {shown(rounds)}, expected a whole number of at '
                                'least 1')
    if not names:
        raise ArchitectureError('got no network to compare: name at least one')
    names = list(dict.fromkeys(names))
    tables = [describe(name) for name in names]
    times: list[float | None] = [None] * len(names)
    if latency:
        modules = [create(name).eval() for name in names]
        times = [*measure_latencies(modules, [table.input_shape for table in tables], rounds)]
    rows = []
    for name, table, duration in zip(names, tables, times):
        label, accuracy = _accuracy(name, table.input_shape, weights)
        rows.append(Compared(
            name, table.input_shape, label, accuracy, table.parameters, table.multiply_adds,
            None if duration is None else round(1000 * duration, 3)))
    return Comparison(tuple(rows), _machine() if latency else None)


def measure_latencies(modules: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]],
                      rounds: int) -> list[float]:
    """
    Return the median seconds that each module takes for one (C, H, W) float32 image.

    The modules take turns, so that whatever else the machine does meanwhile meets all of them.
    """
    images = [torch.rand(1, *shape) for shape in shapes]
    durations: list[list[float]] = [[] for _ in modules]
    with torch.inference_mode():
        for turn in range(-_WARM_UP, rounds):
            for module, image, seconds in zip(modules, images, durations):
                begin = time.perf_counter()
                module(image)
                if turn >= 0:
                    seconds.append(time.perf_counter() - begin)
    return [statistics.median(seconds) for seconds in durations]


def _accuracy(name: str, shape: tuple[int, ...], which: str) -> tuple[str | None, float | None]:
    if source(name) != 'torchvision':
        return None, None
    known: list[tuple[str, float]] = []
    for entry in torchvision.models.get_model_weights(name):
        metrics: dict[str, Any] = entry.meta.get('_metrics', {}).get('ImageNet-1K', {})
        size = entry.transforms.keywords.get('crop_size')
        if 'acc@1' in metrics and size == shape[-1]:
            known.append((entry.name, float(metrics['acc@1'])))
    if not known:
        return None, None
    return known[0] if which == 'first' else max(known, key=lambda pair: pair[1])


def _machine() -> str:
    """Return processor, threads and software that a latency belongs to."""
    threads = torch.get_num_threads()
    return (f'{processor_name()}, {threads} thread{"" if threads == 1 else "s"}, float32, '
            f'PyTorch {torch.__version__}')


def _cells(row: Compared) -> tuple[str, ...]:
    return (row.network, shape_text(row.input_shape), row.weights or '',
            '' if row.accuracy is None else f'{row.accuracy:.2f}', f'{row.parameters:,}',
            count_text(row.multiply_adds),
            '' if row.latency_ms is None else f'{row.latency_ms:.1f}')
