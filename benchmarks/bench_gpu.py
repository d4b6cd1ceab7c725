"""What is promised of a GPU, measured; without one it says so and measures nothing."""

from __future__ import annotations

from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import time

from bench import medians_of, RESULTS, settings
from cnn_perception.backends import CudaBackend
from cnn_perception.backends.cuda_graphs import Recorded
from cnn_perception.classifier import Classifier
from cnn_perception.photographs import photograph
import cv2
import numpy as np
from processes import ClassifierProcess, close, end_all, enter_ros, Listener, Row
import rclpy
import torch

ROUNDS = 5
CALLS = 200
CAMERAS = 16


def bare_replay(backend: CudaBackend) -> float:
    """Time the copy of one prepared input and the replay of the same recording, in seconds."""
    shape = (1, 3, *backend.preprocessor.preprocessing.crop)
    host = torch.zeros(shape, dtype=backend.dtype).contiguous(
        memory_format=torch.channels_last).pin_memory()
    stream = torch.cuda.Stream()
    times = []
    with torch.inference_mode():
        bare = Recorded(backend.function(1, ()), host.cuda(), stream,
                        torch.cuda.graph_pool_handle(), precision=backend.precision)
        with torch.cuda.stream(stream):
            for _ in range(CALLS):
                began = time.perf_counter()
                bare.input.copy_(host, non_blocking=True)
                bare()
                stream.synchronize()
                times.append(time.perf_counter() - began)
    return statistics.median(times)


def one_picture() -> list[Row]:
    """Compare ResNet-50 in float16, upload and preparation included, with the bare replay."""
    ours = Classifier('resnet50', 'none', 'cuda', backend='cuda', precision='float16')
    if not isinstance(ours.backend, CudaBackend):
        raise RuntimeError(f'not measured: {ours.backend_reason}')
    rgb = cv2.resize(photograph('cat'), (640, 480))
    ours.predict([rgb])
    whole, bare = [], []
    for _ in range(ROUNDS):
        times = []
        for _ in range(CALLS):
            began = time.perf_counter()
            ours.predict([rgb])
            times.append(time.perf_counter() - began)
        whole.append(statistics.median(times))
        bare.append(bare_replay(ours.backend))
    ratio = statistics.median(whole) / statistics.median(bare)
    return [Row('ResNet-50 float16, one 640x480 picture, upload included, over a bare replay',
                f'{1000 * statistics.median(whole):.2f} / {1000 * statistics.median(bare):.2f} ms:'
                f' {ratio:.2f}', 'at most 1.2', ratio <= 1.2), stages(ours, rgb)]


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
               f'download {1000 * statistics.median(finished):.2f} ms', '', None)


def many_cameras() -> list[Row]:
    """Run sixteen cameras at 30 Hz in one node, and read the GPU's utilisation meanwhile."""
    names = [f'c{number}' for number in range(CAMERAS)]
    node = ClassifierProcess(architecture='resnet50', weights='none', device='cuda',
                             backend='cuda', precision='float16', cameras=f'[{", ".join(names)}]')
    listener = Listener([f'/classifier/{name}/classification' for name in names])
    topics = [f'{name}/image' for name in names]
    listener.run(30.0, 3.0, topics=topics)
    monitor = None
    if shutil.which('nvidia-smi'):
        monitor = subprocess.Popen(['nvidia-smi', '--query-gpu=utilization.gpu',
                                    '--format=csv,noheader,nounits', '-l', '1'],
                                   stdout=subprocess.PIPE, text=True)
    result = listener.run(30.0, 10.0, topics=topics)
    busy = 'not known'
    if monitor is not None:
        monitor.terminate()
        # A GPU that is lent in parts gives no utilisation.
        use = [float(line) for line in monitor.communicate()[0].split() if line.isdecimal()]
        busy = f'{np.median(use):.0f} %' if use else busy
    close(listener, node)
    lost = int(result['sent'] - result['answers'])
    return [Row(f'{CAMERAS} cameras 640x480 at 30 Hz on one GPU: lost',
                f'{lost} of {int(result["sent"])}, median {1000 * result["median"]:.1f} ms, GPU '
                f'busy: {busy}', '0', lost == 0)]


def main() -> int:
    """Print and record the table."""
    if not torch.cuda.is_available():
        print('no CUDA device: nothing was measured')
        return 0
    enter_ros()
    lines = ['| what | measured | target | |', '|---|---|---|---|']
    for rows in (one_picture, many_cameras):
        for row in rows():
            lines.append(row.line())
            print(lines[-1], flush=True)
    end_all()
    rclpy.try_shutdown()
    RESULTS.mkdir(exist_ok=True)
    Path(RESULTS / 'bench_gpu.md').write_text('\n'.join(
        ['# make bench-gpu', '', f'- {torch.cuda.get_device_name(0)}',
         *settings(medians_of(ROUNDS)), '', *lines, '']))
    return 0


if __name__ == '__main__':
    sys.exit(main())
