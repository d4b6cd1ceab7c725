"""
Everything that this package promises about time, measured, in one table with the targets.

Rows that compare two things do so in one run, in turns, because machines are shared and noisy:
ratios are the result, milliseconds are for orientation. Weights are random where only time is
measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib import metadata
import os
import platform
import subprocess
import sys

from cnn_perception.backends.base import first_line
from cnn_perception.processor import processor_name
from latency_rows import debug_cost, debug_unwatched, in_node, start_up, stamp_to_answer
from load_rows import against_plain, eight_cameras, overload
from picture_rows import class_activation, mosaic
from processes import end_all, enter_ros, HERE
from rows import Row
import rclpy

RESULTS = HERE / 'results'
ROUNDS = 2
# What makes the rows of one name, given the number of rounds.
ROWS: dict[str, Callable[[int], list[Row]]] = {
    'in_node_resnet18': partial(in_node, architecture='resnet18'),
    'in_node_resnet50': partial(in_node, architecture='resnet50'),
    'in_node_mobilenet': partial(in_node, architecture='mobilenet_v3_small'),
    # Of the same turns, in the node too.
    'vga': partial(stamp_to_answer, size='640x480', allowance=3.0),
    'full_hd': partial(stamp_to_answer, size='1920x1080', allowance=8.0),
    'plain': against_plain,
    'overload': overload,
    'eight_cameras': eight_cameras,
    'start_up': start_up,
    'debug': debug_cost,
    'unwatched': debug_unwatched,
    'mosaic': mosaic,
    'cam': class_activation,
}


def settings(measured: str) -> list[str]:
    """Describe the machine, the versions and how it was measured."""
    versions = []
    for name in ('torch', 'torchvision', 'openvino', 'numpy', 'opencv-python-headless'):
        try:
            versions.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            versions.append(f'no {name}')
    return [f'- {date.today()}, {processor_name()}, {os.cpu_count()} cores, load '
            f'{os.getloadavg()[0]:.1f} at the end',
            f'- Python {platform.python_version()}, {", ".join(versions)}',
            f'- ROS 2 {os.environ.get("ROS_DISTRO") or "Jazzy from wheels"}, Fast DDS with '
            f'config/fastdds.xml, {measured}']


def medians_of(rounds: int) -> str:
    """Say how rows are measured."""
    return f'medians of {rounds} interleaved round(s), but for rows that run once or go by frames'


def main() -> int:
    """Run the rows, print the table and record it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('rows', nargs='*', help='default: all')
    parser.add_argument('--rounds', type=int, default=ROUNDS, help='turns of each comparison')
    parser.add_argument('--record', action='store_true', help='write results/bench_cpu.md')
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f'there is no row {unknown[0]}; the rows are {", ".join(ROWS)}')
    enter_ros()
    lines = ['| what | measured | target | |', '|---|---|---|---|']
    print('\n'.join(lines), flush=True)
    complete = True
    for name in options.rows or ROWS:
        try:
            rows = ROWS[name](options.rounds)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            rows, complete = [Row(name, f'not measured: {first_line(error)}', '', None)], False
            end_all()
        for row in rows:
            lines.append(row.line())
            print(lines[-1], flush=True)
        if options.record:
            # After each row, so that a run that is stopped keeps what it has measured.
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / 'bench_cpu.md').write_text('\n'.join(
                ['# make bench', '', *settings(medians_of(options.rounds)), '', *lines,
                 '']))
    end_all()
    rclpy.try_shutdown()
    return 0 if complete else 1


if __name__ == '__main__':
    sys.exit(main())
