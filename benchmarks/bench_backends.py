"""
What each backend makes of a forward pass, as a ratio to eager torch in float32.

    .venv/bin/python benchmarks/bench_backends.py [--device cuda] [--compile] [--record]

Backends take turns, so that a busy machine slows all of them alike; each turn begins with a run
that is not timed, because the threads of the one before are still waiting for work. Answers are
checked against the reference on photographs. The start is from the start of the process to the
first answer, with weights on disk. --record writes benchmarks/results/backends_<device>.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import datetime
import importlib.metadata
from pathlib import Path
import platform
import subprocess
import sys
import tempfile
import time

from cnn_perception import photographs
from cnn_perception.backends import choose, names, refusal, Settings
from cnn_perception.backends.base import Backend
from cnn_perception.classifier import softmax
from cnn_perception.devices import resolve_device
from cnn_perception.processor import physical_cores, processor_name
from cnn_perception.weights import load_network, Network
import numpy as np
import torch

NETWORKS = ('resnet18', 'mobilenet_v3_small', 'efficientnet_lite0', 'resnet50')
PRECISIONS = {'cpu': ('float32', 'bfloat16', 'int8'), 'cuda': ('float32', 'bfloat16', 'float16')}
RESULTS = Path(__file__).parent / 'results'
START = """
import time; begun = time.perf_counter()
from cnn_perception.classifier import Classifier
imported = time.perf_counter()
import numpy as np
made = Classifier(device={device!r}, backend={backend!r}, cache_dir={cache!r})
built = time.perf_counter()
made.predict([np.zeros((480, 640, 3), np.uint8)])
print(time.time(), imported - begun, built - imported, time.perf_counter() - built)
"""


def engines(network: Network, device: torch.device, with_compile: bool
            ) -> Iterator[tuple[str, Backend, str]]:
    """Build every engine that can be used, each with its name and what `choose` says of it."""
    pictures = tuple(photographs.photograph(name) for name in photographs.NAMES)
    for name in sorted(names(), key=lambda other: other != 'torch'):
        for precision in PRECISIONS[device.type]:
            settings = Settings(device, precision, calibration=pictures)
            if (name == 'compile' and not with_compile) or refusal(name, settings):
                continue
            backend, reason = choose(name, network.module, network.preprocessing, settings)
            if backend.name == name:
                yield f'{name} {precision}', backend, reason


def compare(architecture: str, device: torch.device, rounds: int, with_compile: bool
            ) -> list[str]:
    """Time a forward pass and a whole 640 x 480 picture; returns rows of a table."""
    weights = 'default' if architecture == 'efficientnet_lite0' else 'none'
    built = list(engines(load_network(architecture, weights), device, with_compile))
    frame = photographs.photograph('cat')
    frame = np.ascontiguousarray(np.tile(frame, (2, 2, 1))[:480, :640])
    batches = {name: backend.prepare([frame]) for name, backend, _ in built}
    bare: dict[str, list[float]] = {name: [] for name in batches}
    whole: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(rounds):
        for name, backend, _ in built:
            backend.forward(batches[name])
            start = time.perf_counter()
            backend.forward(batches[name])
            bare[name].append(time.perf_counter() - start)
            start = time.perf_counter()
            backend.forward_pictures([frame])
            whole[name].append(time.perf_counter() - start)
    reference = np.median(bare['torch float32'])
    return [f'| {architecture} | {name} | {reference / np.median(bare[name]):.2f} | '
            f'{np.median(whole[name]) / np.median(bare[name]):.2f} | '
            f'{1e3 * np.median(bare[name]):.1f} | {difference(backend, built[0][1]):.4f} |'
            for name, backend, _ in built]


def difference(backend: Backend, reference: Backend) -> float:
    """Return the largest difference of a probability from the reference on the photographs."""
    pictures = [photographs.photograph(name) for name in photographs.NAMES]
    scores = [softmax(engine.forward_pictures(pictures)[0])
              for engine in (backend, reference)]
    return float(np.abs(scores[0] - scores[1]).max())


def starts(device: str, rounds: int) -> list[str]:
    """Time new processes from their start to the first answer; returns rows of a table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = {'torch': ('torch', ''), 'auto': ('auto', ''), 'auto, cache_dir': ('auto', folder)}
        times: dict[str, list[list[float]]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (backend, cache) in cases.items():
                code = START.format(device=device, backend=backend, cache=cache)
                begun = time.time()
                output = subprocess.run([sys.executable, '-c', code], capture_output=True,
                                        text=True, check=True).stdout
                answered, *parts = (float(part) for part in output.split())
                times[name].append([answered - begun, *parts])
    for name, values in times.items():
        medians = ' | '.join(f'{value:.2f}' for value in np.median(values, axis=0))
        rows.append(f'| {name} | {medians} | {np.min(values, axis=0)[0]:.2f} |')
    return rows


def version(package: str) -> str:
    """Return a package and its version, or that it is missing."""
    try:
        return f'{package} {importlib.metadata.version(package)}'
    except importlib.metadata.PackageNotFoundError:
        return f'no {package}'


def machine(device: torch.device) -> str:
    """Name the processor or the GPU."""
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return processor_name()


def main() -> None:
    """Measure, print, and record where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition('\n')[0])
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--rounds', type=int, default=25)
    parser.add_argument('--starts', type=int, default=3)
    parser.add_argument('--networks', nargs='+', default=NETWORKS)
    parser.add_argument('--compile', action='store_true', help='torch.compile too: minutes')
    parser.add_argument('--record', action='store_true')
    options = parser.parse_args()
    device, _ = resolve_device(options.device)
    lines = [
        f'# Backends on {device.type}', '',
        f'{datetime.date.today()}, {machine(device)}, {physical_cores()} physical cores, '
        f'Python {platform.python_version()}, '
        + ', '.join(version(name) for name in ('torch', 'openvino', 'nncf')) + '. Medians of '
        f'{options.rounds} interleaved runs, one picture each; the machine is shared, so ratios '
        'count and milliseconds do not. int8 is calibrated on the six photographs that it is '
        'compared on; networks other than efficientnet_lite0 have random weights, for which the '
        'difference says little.', '',
        '| network | backend | times faster than torch float32 | with a 640 x 480 picture '
        'prepared, times the forward | forward, ms | largest difference of a probability |',
        '|---|---|---|---|---|---|']
    for architecture in options.networks:
        rows = compare(architecture, device, options.rounds, options.compile)
        print('\n'.join(rows), flush=True)
        lines += rows
    if options.starts:
        lines += ['', f'Start of efficientnet_lite0, medians of {options.starts} processes in '
                  'turns, seconds; the cache was empty before the first:', '',
                  '| backend | process start to answer | import | load and compile | first answer '
                  '| fastest start to answer |',
                  '|---|---|---|---|---|---|', *starts(options.device, options.starts)]
    text = '\n'.join(lines) + '\n'
    print(text)
    if options.record:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f'backends_{device.type}.md').write_text(text)


if __name__ == '__main__':
    main()
