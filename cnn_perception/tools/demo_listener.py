"""The ear of the demo: answers, overlays and losses of one classifier, as lines and a table."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass, field
from pathlib import Path
import re
import time

from cnn_perception import render
from cnn_perception.ros.image_messages import to_rgb
import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Classification

__all__ = ['Listener']

# Seconds between two lines, and between two kept overlays, of a video or camera.
STEADY_PERIOD = 0.5
MOST_OVERLAYS = 24
SHEET = 'contact_sheet.png'


@dataclass
class Row:
    """What became of the frames of one picture."""

    sent: int = 0
    answers: int = 0
    answer: str = ''
    score: float = 0.0
    latencies: list[float] = field(default_factory=list)


class Listener:
    """Subscribes to what the demo's nodes publish and keeps what the table needs."""

    def __init__(self, namespace: str, folder: Path, steady: bool) -> None:
        """Subscribe; steady: one row for all frames, as of a camera, instead of one a picture."""
        rclpy.init(args=[])
        self._node = rclpy.create_node('listener', namespace=namespace)
        self._folder = folder
        self._steady = steady
        self._answers_topic = f'{namespace}/classifier/classification'
        self._rows: dict[str, Row] = {}
        self._overlays: dict[str, np.ndarray] = {}
        self._last_line = self._last_overlay = 0.0
        self._name, self._failed = f'{namespace}/classifier', False
        deep = QoSProfile(depth=100)
        node = self._node
        self._subscriptions = [
            node.create_subscription(Classification, self._answers_topic, self._answer, deep),
            node.create_subscription(Image, f'{namespace}/classifier/debug/overlay',
                                     self._overlay, QoSProfile(depth=5)),
            node.create_subscription(DiagnosticArray, '/diagnostics', self._report, deep),
            node.create_subscription(Header, f'{namespace}/image_source/published',
                                     self._sent, QoSProfile(
                                         depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL))]

    def wait_for_answers(self, alive: Callable[[], bool], timeout: float) -> bool:
        """Wait until somebody publishes answers; False where the node fails or time ends."""
        deadline = time.monotonic() + timeout
        while self._node.count_publishers(self._answers_topic) == 0:
            if self._failed or not alive() or time.monotonic() > deadline:
                return False
            self.spin(0.1)
        return True

    def spin(self, seconds: float) -> None:
        """Receive for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self._node, timeout_sec=left)

    def close(self) -> None:
        """Leave the graph and write the overlays."""
        self._node.destroy_node()
        rclpy.try_shutdown()
        written = {SHEET}
        for name, picture in self._overlays.items():
            written.add(file := file_name(name, written))
            write(self._folder / file, picture)
        if self._overlays:
            write(self._folder / SHEET,
                  render.contact_sheet(list(self._overlays.values())))

    def header(self) -> None:
        """Print the head of the live lines."""
        print(f'\n{"picture":<12}{"ms":>7}  three best', flush=True)

    def summary(self) -> int:
        """Print the table; returns the number of answers."""
        line = '{:<12} {:<22} {:>7} {:>5} {:>5} {:>8} {:>10} {:>10}'
        answer = 'last answer' if self._steady else 'answer'
        print('\n' + line.format('picture', answer, 'score', 'in', 'out', 'dropped',
                                 'median ms', '95 % ms'))
        rows = dict(self._rows)
        if len(rows) > 1:
            rows['all'] = Row(sum(row.sent for row in rows.values()),
                              sum(row.answers for row in rows.values()),
                              latencies=[ms for row in rows.values() for ms in row.latencies])
        for name, row in rows.items():
            median, late = (np.percentile(row.latencies, (50, 95)) if row.latencies
                            else (float('nan'),) * 2)
            score = f'{row.score:.3f}' if row.answer else ''
            print(line.format(name[:12], row.answer[:22], score, row.sent, row.answers,
                              max(0, row.sent - row.answers), f'{median:.1f}', f'{late:.1f}'))
        return sum(row.answers for row in self._rows.values())

    def _row(self, name: str) -> Row:
        return self._rows.setdefault(name, Row())

    def _report(self, message: DiagnosticArray) -> None:
        # A node that could not configure stays, so that its parameters can be mended.
        self._failed |= any(status.name == self._name and status.level == DiagnosticStatus.ERROR
                            for status in message.status)

    def _sent(self, header: Header) -> None:
        self._row(header.frame_id).sent += 1

    def _answer(self, message: Classification) -> None:
        stamp = message.header.stamp.sec * 10 ** 9 + message.header.stamp.nanosec
        latency = (self._node.get_clock().now().nanoseconds - stamp) * 1e-6
        row = self._row(message.header.frame_id)
        first = row.answers == 0
        row.answers += 1
        row.latencies.append(latency)
        if message.results:
            row.answer, row.score = message.results[0].class_id, message.results[0].score
        now = time.monotonic()
        if first or (self._steady and now - self._last_line >= STEADY_PERIOD):
            self._last_line = now
            best = ', '.join(f'{result.class_id} {result.score:.3f}'
                             for result in message.results[:3])
            print(f'{message.header.frame_id[:12]:<12}{latency:>7.1f}  {best}', flush=True)

    def _overlay(self, message: Image) -> None:
        name = message.header.frame_id
        if self._steady:
            now = time.monotonic()
            if now - self._last_overlay < STEADY_PERIOD or len(self._overlays) >= MOST_OVERLAYS:
                return
            self._last_overlay = now
            name = f'{name}_{len(self._overlays):03d}'
        self._overlays[name] = to_rgb(message)


def file_name(name: str, taken: Set[str]) -> str:
    """Return a name for the picture called `name` that no other one has."""
    safe = re.sub(r'[^\w.-]', '_', name)
    unique, number = safe, 2
    while f'{unique}.png' in taken:
        unique, number = f'{safe}_{number}', number + 1
    return f'{unique}.png'


def write(path: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB as a PNG file."""
    if not cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)):
        raise OSError(f"'{path}' could not be written")
