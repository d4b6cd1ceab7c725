"""
What pictures of the network cost: mosaics, and class activation maps beside a forward pass.

    .venv/bin/python benchmarks/bench_rendering.py

Prints medians with the 10th and 90th percentile, in milliseconds. What is compared is measured in
turns, so that a busy machine slows all of it alike; what runs networks, in turns of several at
the pace of a camera, as a node does. Targets: 64 maps to one picture in at most 1 ms, forward
with class activation map at most 1.10 times the forward.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
import os
import time

from cnn_perception import photographs, render
from cnn_perception.classifier import Classifier
from cnn_perception.explain import GradCam
from cnn_perception.processor import processor_name
import cv2
import numpy as np
import torch

SHAPES = ((64, 112, 112), (64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7), (1000,))
NETWORKS = ('efficientnet_lite0', 'resnet18', 'googlenet', 'mobilenet_v3_small', 'densenet121',
            'vgg16', 'alexnet')
# Pictures in a turn, and the seconds between two.
TURN = 12
PAUSE = 0.02
MOSAIC_TARGET_MS = 1.0
CAM_TARGET = 1.10


def interleaved(tasks: Mapping[str, Callable[[], object]], rounds: int, turn: int = 1,
                pause: float = 0.0) -> dict[str, np.ndarray]:
    """
    Run all tasks in turns; returns (rounds,) milliseconds for each, the median of every turn.

    turn: how often a task runs in its turn; of several the first is not counted. pause: seconds
    before each.
    """
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for round_number in range(rounds + 2):
        for name, task in tasks.items():
            durations = []
            for _ in range(turn):
                time.sleep(pause)
                start = time.perf_counter()
                task()
                durations.append(1000.0 * (time.perf_counter() - start))
            if round_number >= 2:
                times[name].append(float(np.median(durations[-max(1, turn - 1):])))
    return {name: np.array(values) for name, values in times.items()}


def spread(values: np.ndarray) -> str:
    """Format the median and the 10th and 90th percentile."""
    low, middle, high = np.percentile(values, (10, 50, 90))
    return f'{middle:7.3f}  ({low:.3f} to {high:.3f})'


def mosaics(rounds: int) -> bool:
    """Time mosaics of 64 maps with labels and caption; True where all keep the target."""
    random = np.random.default_rng(0)
    tasks: dict[str, Callable[[], object]] = {}
    for shape in SHAPES:
        values = np.maximum(random.normal(size=shape), 0).astype(np.float32)
        name = ' x '.join(str(size) for size in shape)
        tasks[name] = partial(render.mosaic, values, caption='layer2.0.relu')
        if len(shape) == 3:
            tasks[f'{name}, strongest, per layer'] = partial(
                render.mosaic, values, channels='strongest', normalize='layer',
                caption='layer2.0.relu')
    kept = True
    print(f'64 maps to one picture, labels and caption on (target {MOSAIC_TARGET_MS} ms)')
    for name, times in interleaved(tasks, rounds).items():
        verdict = 'ok' if np.median(times) <= MOSAIC_TARGET_MS else 'MISSED'
        kept &= verdict == 'ok'
        print(f'  {name:40} {spread(times)}  {verdict}')
    return kept


def others(rounds: int) -> None:
    """Time the other pictures; they have no target of their own."""
    frame = cv2.resize(photographs.photograph('cat'), (640, 480))
    classifier = Classifier(weights='default')
    heat = np.random.default_rng(0).random((7, 7)).astype(np.float32)
    answer = render.overlay(frame, [('tiger cat', 0.4)] * 5, 'network')
    maps = render.mosaic(np.zeros((28, 56, 56), np.float32), largest=render.MOSAIC_SIZE)
    tasks: dict[str, Callable[[], object]] = {
        'overlay 640 x 480': lambda: render.overlay(frame, [('tiger cat', 0.4)] * 5, 'network'),
        'heatmap_blend 640 x 480': lambda: render.heatmap_blend(
            frame, heat, classifier.network.preprocessing, label=('tiger cat', 0.4)),
        'edges 640 x 480': lambda: render.edges(frame),
        'dashboard': lambda: render.dashboard(answer, answer, [maps] * 3, [0.01] * 600)}
    print('other pictures')
    for name, times in interleaved(tasks, rounds).items():
        print(f'  {name:40} {spread(times)}')


def cam_times(name: str, rounds: int, backend: str = 'auto') -> tuple[float, float, str]:
    """
    Time forward passes at 640 x 480 without and with a class activation map.

    Returns (milliseconds without, ratio of both, which backend and layer).
    """
    frame = cv2.resize(photographs.photograph('cat'), (640, 480))
    weights = 'default' if name == 'efficientnet_lite0' else 'none'
    classifier = Classifier(name, weights, backend=backend)
    cam = GradCam(classifier)
    taps = cam.taps_for()

    def with_map() -> None:
        [prediction] = classifier.predict([frame], taps)
        cam.explain(prediction)
    times = interleaved({'forward': partial(classifier.predict, [frame]), 'with map': with_map},
                        rounds, TURN, PAUSE)
    # Of each round's pair, so that a slow moment of the machine counts for both.
    ratio = float(np.median(times['with map'] / times['forward']))
    return (float(np.median(times['forward'])), ratio,
            f'{classifier.backend_name}, at {cam.layer}')


def activation_maps(networks: list[str], rounds: int, backend: str) -> bool:
    """Print what class activation maps cost; True where all keep the target."""
    kept = True
    print(f'class activation map through the head (target {CAM_TARGET:.2f} x forward)')
    for name in networks:
        forward, ratio, what = cam_times(name, rounds, backend)
        kept &= ratio <= CAM_TARGET
        print(f'  {name:20} forward {forward:7.3f}   ratio {ratio:.3f}  '
              f'{"ok" if ratio <= CAM_TARGET else "MISSED"}  {what}')
    return kept


def main() -> int:
    """Run all; 0 where the targets are kept."""
    parser = argparse.ArgumentParser(description='Time pictures of the network.')
    parser.add_argument('--rounds', type=int, default=100)
    parser.add_argument('--networks', nargs='*', default=list(NETWORKS))
    parser.add_argument('--backend', default='torch')
    options = parser.parse_args()
    print(f'{processor_name()}, {os.cpu_count()} cores; torch '
          f'{torch.__version__}, {torch.get_num_threads()} threads; OpenCV {cv2.__version__}, '
          f'{cv2.getNumThreads()} threads; NumPy {np.__version__}')
    kept = mosaics(2 * options.rounds)
    others(options.rounds)
    kept &= activation_maps(options.networks, max(1, options.rounds // 10), options.backend)
    return 0 if kept else 1


if __name__ == '__main__':
    raise SystemExit(main())
