"""What is promised of a GPU, measured; without one it says so and measures nothing."""

from __future__ import annotations

import argparse
from datetime import date
import importlib.util
import os
from pathlib import Path
import platform
import shutil
import statistics
import subprocess
import sys
import time

from cnn_perception.backends import CudaBackend
from cnn_perception.backends.base import first_line
from cnn_perception.backends.cuda_graphs import Function, PinnedOutputs, Recorded
from cnn_perception.classifier import Classifier
from cnn_perception.devices import has_gpu, resolve_device
from cnn_perception.photographs import photograph
from cnn_perception.processor import processor_name
import cv2
import numpy as np
from rows import Row
import torch
import torchvision.models

ROUNDS = 5
CALLS = 200
CAMERAS = 16
# Without ROS 2 what needs none is still measured.
HAS_ROS = importlib.util.find_spec('rclpy') is not None
RESULT = Path(__file__).resolve().parent / 'results' / 'bench_gpu.md'


class BareReplay:
    """A network recorded as a CUDA graph, with one prepared picture copied to the GPU."""

    def __init__(self, function: Function, shape: tuple[int, ...]) -> None:
        """Record a function of (1, C, h, w) float16."""
        self._host = torch.zeros(shape, dtype=torch.float16).contiguous(
            memory_format=torch.channels_last).pin_memory()
        self._stream = torch.cuda.Stream()
        with torch.inference_mode():
            self._network = Recorded(function, self._host.cuda(), self._stream,
                                     torch.cuda.graph_pool_handle())
        self._pinned = PinnedOutputs(self._network.shapes)

    def seconds(self, download: bool) -> float:
        """Time the copy and the replay; download: and the answer's way back."""
        times = []
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(CALLS):
                began = time.perf_counter()
                self._network.input.copy_(self._host, non_blocking=True)
                outputs = self._network()
                if download:
                    self._pinned.download(outputs, 1)
                self._stream.synchronize()
                times.append(time.perf_counter() - began)
        return statistics.median(times)


def one_picture() -> list[Row]:
    """Compare ResNet-50 in float16, upload and preparation included, with bare replays."""
    ours = Classifier('resnet50', 'none', 'cuda', backend='cuda', precision='float16')
    if not isinstance(ours.backend, CudaBackend):
        raise RuntimeError(ours.backend_reason)
    shape = (1, 3, *ours.backend.preprocessor.preprocessing.crop)
    plain = torchvision.models.resnet50().eval().requires_grad_(False).to(
        'cuda', torch.float16, memory_format=torch.channels_last)
    replays = {'bare': BareReplay(lambda batch: (plain(batch),), shape),
               'own': BareReplay(ours.backend.function(1, ()), shape)}
    rgb = cv2.resize(photograph('cat'), (640, 480))
    ours.predict([rgb])
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        turns = []
        for _ in range(CALLS):
            began = time.perf_counter()
            ours.predict([rgb])
            turns.append(time.perf_counter() - began)
        times.setdefault('whole', []).append(statistics.median(turns))
        for name, replay in replays.items():
            times.setdefault(name, []).append(replay.seconds(download=False))
            times.setdefault(f'{name} answered', []).append(replay.seconds(download=True))
    found = {name: 1000 * statistics.median(values) for name, values in times.items()}

    def over(name: str) -> str:
        return f'{found["whole"]:.2f} / {found[name]:.2f} ms: {found["whole"] / found[name]:.2f}'
    what = 'ResNet-50 float16, one 640x480 picture, upload included, over'
    return [Row(f'{what} a bare replay of the network as torchvision has it', over('bare'),
                'at most 1.2', found['whole'] <= 1.2 * found['bare']),
            Row(f'{what} the same that brings its answer', over('bare answered')),
            Row(f'{what} a bare replay of what this package makes of the network', over('own')),
            Row(f'{what} the same that brings its answer', over('own answered')),
            stages(ours, rgb)]


def stages(classifier: Classifier, rgb: np.ndarray) -> Row:
    """Time what one picture goes through, one after the other."""
    prepared, finished = [], []
    for _ in range(CALLS):
        began = time.perf_counter()
        batch = classifier.backend.prepare([rgb])
        torch.cuda.synchronize()
        ready = time.perf_counter()
        classifier.backend.forward(batch)
        prepared.append(ready - began)
        finished.append(time.perf_counter() - ready)
    return Row('its stages, each waited for',
               f'upload, resize, normalise {1000 * statistics.median(prepared):.2f} ms; network, '
               f'download {1000 * statistics.median(finished):.2f} ms')


def against_plain() -> list[Row]:
    """Compare with the node that everybody writes on the same GPU, as it comes: precision auto."""
    need_ros()
    from processes import ClassifierProcess, close, HERE, Listener, Process
    results = []
    for ours in (True, False):
        node = (ClassifierProcess(architecture='resnet18', weights='none', precision='auto')
                if ours else Process([str(HERE / 'plain_node.py')]))
        started = node.wait_for('ready in')
        listener = Listener()
        listener.run(30.0, 1.0)
        slow, fast = listener.run(30.0, 3.0), listener.run(1000.0, 3.0)
        results.append((1000 * slow['median'], 1000 * fast['median'], fast['rate'], started))
        close(listener, node)
    (slow, busy, rate, start), (plain_slow, plain_busy, plain_rate, plain_start) = results
    what = 'against the plain node, ResNet-18, 640x480'
    return [Row(f'frames a second {what}, as many as the sender sends',
                f'{rate:.0f} / {plain_rate:.0f}: {rate / plain_rate:.1f} times'),
            Row(f'stamp to answer in another process, in the same run, {what}',
                f'{busy:.1f} / {plain_busy:.1f} ms: {plain_busy / busy:.1f} times lower'),
            Row(f'the same at 30 Hz, {what}',
                f'{slow:.1f} / {plain_slow:.1f} ms: {plain_slow / slow:.1f} times lower'),
            Row(f'start until ready {what}', f'{start:.1f} / {plain_start:.1f} s')]


def many_cameras() -> list[Row]:
    """Run sixteen cameras at 30 Hz in one node, and read the GPU's utilisation meanwhile."""
    need_ros()
    from diagnostic_msgs.msg import DiagnosticArray
    from processes import ClassifierProcess, close, Listener
    names = [f'c{number}' for number in range(CAMERAS)]
    node = ClassifierProcess(architecture='resnet50', weights='none', device='cuda',
                             backend='cuda', precision='float16', cameras=f'[{", ".join(names)}]')
    listener = Listener([f'/classifier/{name}/classification' for name in names])
    topics = [f'{name}/image' for name in names]
    reports: list[DiagnosticArray] = []
    listener.node.create_subscription(DiagnosticArray, '/diagnostics', reports.append, 10)
    listener.run(30.0, 3.0, topics=topics)
    before = counted(reports)
    monitor = None
    if shutil.which('nvidia-smi'):
        monitor = subprocess.Popen(['nvidia-smi', '-i', '0', '--query-gpu=utilization.gpu',
                                    '--format=csv,noheader,nounits', '-l', '1'],
                                   stdout=subprocess.PIPE, text=True)
    result = listener.run(30.0, 10.0, topics=topics)
    busy = 'not known'
    if monitor is not None:
        monitor.terminate()
        # A GPU that is lent in parts gives no utilisation.
        use = [float(line) for line in monitor.communicate()[0].split() if line.isdecimal()]
        busy = f'{np.median(use):.0f} %' if use else busy
    listener.run(1.0, 2.0, topics=topics)  # until the node has reported
    node_says = {name: count - before[name] for name, count in counted(reports).items()}
    close(listener, node)
    lost = int(result['sent'] - result['answers'])
    return [Row(f'{CAMERAS} cameras 640x480 at 30 Hz on one GPU: lost',
                f'{lost} of {int(result["sent"])}, median {1000 * result["median"]:.1f} ms, GPU '
                f'busy: {busy}; the node: {node_says}', '0', lost == 0)]


def need_ros() -> None:
    """Refuse a row that cannot be measured without ROS 2."""
    if not HAS_ROS:
        raise RuntimeError('there is no ROS 2 here')


def counted(reports: list) -> dict[str, int]:
    """Add up what the node last said of its cameras: where on its way an image was lost."""
    latest = {status.name: status for report in reports for status in report.status}
    return {name: sum(int(entry.value) for status in latest.values() for entry in status.values
                      if entry.key == name) for name in ('dropped', 'lost', 'failed')}


def described() -> list[str]:
    """Describe the GPU, what drives it and how it was measured."""
    driver = 'unknown'
    if shutil.which('nvidia-smi'):
        found = subprocess.run(['nvidia-smi', '-i', '0', '--query-gpu=driver_version',
                                '--format=csv,noheader'], capture_output=True, text=True)
        driver = found.stdout.strip() or driver
    return [f'- {date.today()}, {torch.cuda.get_device_name(0)}, driver {driver}, '
            f'{processor_name()}, {os.cpu_count()} cores',
            f'- Python {platform.python_version()}, torch {torch.__version__}, CUDA '
            f'{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}',
            f'- of one picture: medians of {ROUNDS} interleaved rounds of {CALLS} calls; of nodes '
            'one run each']


def main() -> int:
    """Print the table, and record it where that is asked for."""
    parser = argparse.ArgumentParser(description='Measure what is promised of a GPU.')
    parser.add_argument('--record', action='store_true', help='write results/bench_gpu.md')
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print('no CUDA device: nothing was measured')
        if has_gpu():
            resolve_device('cuda')  # raises, with what is wrong with it
        return 0
    if HAS_ROS:
        from processes import end_all, enter_ros
        import rclpy
        enter_ros()
    lines = ['| what | measured | target | |', '|---|---|---|---|']
    for rows in (one_picture, many_cameras, against_plain):
        try:
            lines += [row.line() for row in rows()]
        except Exception as error:  # the other rows are worth having
            lines.append(Row(rows.__name__, f'not measured: {first_line(error)}').line())
        print('\n'.join(lines[2:]), flush=True)
    if HAS_ROS:
        end_all()
        rclpy.try_shutdown()
    if options.record:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text('\n'.join(['# make bench-gpu', '', *described(), '', *lines, '']))
    return 0


if __name__ == '__main__':
    sys.exit(main())
