"""The bare forward pass in a process of its own: what no node can be faster than."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from cnn_perception.classifier import Classifier
from cnn_perception.photographs import photograph
import cv2


def main() -> None:
    """For each line {"rate": Hz, "seconds": s} on standard input, run so; print times as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--architecture', default='resnet18')
    parser.add_argument('--backend', default='auto')
    parser.add_argument('--size', default='640x480')
    parser.add_argument('--batch', type=int, default=1)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split('x'))
    default = options.architecture == 'efficientnet_lite0'
    classifier = Classifier(options.architecture, 'default' if default else 'none',
                            backend=options.backend)
    frames = [cv2.resize(photograph('cat'), (width, height))] * options.batch
    prepared = classifier.backend.prepare(frames)
    for _ in range(10):
        classifier.backend.forward(prepared)
    print(json.dumps({'backend': classifier.backend_name}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        rate, seconds = order['rate'], order['seconds']
        times = []
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            started = time.perf_counter()
            classifier.backend.forward(prepared)
            times.append(time.perf_counter() - started)
            if rate > 0:
                time.sleep(max(0.0, began + len(times) / rate - time.monotonic()))
        elapsed = time.monotonic() - began
        print(json.dumps({'median': statistics.median(times), 'count': len(times),
                          'rate': len(times) / elapsed}), flush=True)


if __name__ == '__main__':
    sys.exit(main())
