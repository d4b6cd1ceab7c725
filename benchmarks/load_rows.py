"""The rows about work: against the node that everybody writes, overload, eight cameras."""

from __future__ import annotations

import statistics
import tempfile

from cnn_perception.photographs import NAMES, photograph
from cnn_perception.processor import has_bfloat16
import cv2
from processes import (
    ClassifierProcess, close, ForwardProcess, HERE, Listener, Process, RATE, silenced)
from rows import Row

__all__ = ['against_plain', 'eight_cameras', 'overload']


def against_plain(rounds: int) -> list[Row]:
    """Compare with the node that everybody writes, with as many frames as it can take."""
    ours = {'precision auto: bfloat16': 'auto', 'float32': 'float32'}
    if not has_bfloat16():
        ours = {'precision auto: float32': 'auto', 'int8, calibrated on photographs': 'int8'}
    results: dict[str, list[dict[str, float]]] = {name: [] for name in ['plain', *ours]}
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            cv2.imwrite(f'{folder}/{name}.png', photograph(name)[..., ::-1])
        for turn in range(rounds):
            for name, runs in results.items():
                if turn and ours.get(name) == 'int8':
                    continue  # its start, with the calibration, takes as long as all the rest
                if name == 'plain':
                    node = Process([str(HERE / 'plain_node.py')])
                    node.wait_for('ready in')
                else:
                    node = ClassifierProcess(architecture='resnet18', weights='none',
                                             precision=ours[name], calibration=folder)
                listener = Listener()
                slow = listener.run(RATE, 2.0)
                fast = listener.run(200.0, 3.0)
                runs.append({'latency': slow['median'], 'busy': fast['median'],
                             'rate': fast['rate']})
                close(listener, node)
    medians = {name: {key: statistics.median(run[key] for run in runs)
                      for key in ('latency', 'busy', 'rate')} for name, runs in results.items()}
    plain, rows = medians['plain'], []
    for name, precision in ours.items():
        mine = medians[name]
        times = mine['rate'] / plain['rate']
        rows.append(compared(
            f'frames a second against the plain node, ResNet-18 ({name})',
            f'{mine["rate"]:.0f} / {plain["rate"]:.0f}: {times:.1f} times',
            times if precision != 'float32' else None))
        # At 30 Hz neither is busy, and what a core needs to wake up counts for both.
        for what, key in (('in the same run', 'busy'), ('at 30 Hz', 'latency')):
            times = plain[key] / mine[key]
            rows.append(compared(
                f'latency {what}, against the plain node, ResNet-18 ({name})',
                f'{1000 * mine[key]:.1f} / {1000 * plain[key]:.1f} ms: {times:.1f} times lower',
                times if precision != 'float32' and key == 'busy' else None))
    return rows


def compared(what: str, measured: str, times: float | None) -> Row:
    """Make a row with the target, or without one where `times` is None."""
    if times is None:
        return Row(what, measured, '', None)
    return Row(what, measured, 'at least 2.5 times', times >= 2.5)


def beside_senders(rounds: int, forward: ForwardProcess, node: ClassifierProcess,
                   listener: Listener, rate: float, topics: list[str]
                   ) -> tuple[list[dict[str, float]], ...]:
    """Run the node, and in turns a bare loop beside the same senders; returns (ours, bare)."""
    ours, bare = [], []
    for _ in range(2 * rounds + 1):
        ours.append(listener.run(rate, 3.0, topics=topics))
        with silenced(node, listener.node, topics):
            forward.begin(rate=0.0, seconds=3.0)
            listener.run(rate, 3.0, topics=topics)
            bare.append(forward.result())
    return ours[1:], bare[1:]


def overload(rounds: int) -> list[Row]:
    """Send four times what the network can do; compare with a bare loop beside that sender."""
    forward = ForwardProcess('--architecture', 'resnet18')
    rate = 4.0 * forward.run(0.0, 3.0)['rate']
    node = ClassifierProcess(architecture='resnet18', weights='none')
    listener = Listener()
    listener.run(rate, 3.0)
    before = node.resident()
    ours, bare = beside_senders(rounds, forward, node, listener, rate, ['image'])
    growth = (node.resident() - before) / 2 ** 20
    close(listener, node, forward)
    achieved = statistics.median(run['rate'] for run in ours)
    possible = statistics.median(run['rate'] for run in bare)
    latency = statistics.median(run['median'] for run in ours)
    one = statistics.median(run['median'] for run in bare)
    return [Row(f'overload, {rate:.0f} Hz of 640x480: rate over a bare loop beside it',
                f'{achieved:.0f} / {possible:.0f} Hz: {achieved / possible:.2f}', 'at least 0.90',
                achieved >= 0.9 * possible),
            Row('overload: latency', f'{1000 * latency:.1f} ms = {latency / one:.1f} forwards',
                'under 2 forwards', latency < 2 * one),
            Row('overload: memory over the run', f'{growth:+.1f} MiB', 'flat (under 20 MiB)',
                growth < 20)]


def eight_cameras(rounds: int) -> list[Row]:
    """Compare eight cameras in one node with the bare forward pass of batches of eight."""
    names = [f'c{number}' for number in range(8)]
    forward = ForwardProcess('--architecture', 'resnet18', '--batch', '8')
    node = ClassifierProcess(architecture='resnet18', weights='none',
                             cameras=f'[{", ".join(names)}]')
    listener = Listener([f'/classifier/{name}/classification' for name in names])
    ours, bare = beside_senders(rounds, forward, node, listener, 60.0,
                                [f'{name}/image' for name in names])
    close(listener, node, forward)
    achieved = statistics.median(run['rate'] for run in ours)
    possible = 8 * statistics.median(run['rate'] for run in bare)
    return [Row('eight cameras 640x480: total rate over batched bare forward beside the same '
                'senders', f'{achieved:.0f} / {possible:.0f} Hz: {achieved / possible:.2f}',
                'at least 0.90', achieved >= 0.9 * possible)]
