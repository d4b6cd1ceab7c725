"""Rates, latencies and losses of each camera as diagnostic_msgs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
import threading
import time

from cnn_perception.classifier import Classifier
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from std_msgs.msg import Header

__all__ = ['CameraStatistics', 'array', 'camera_status', 'node_status', 'status']

# Latencies kept for the median and the 95th percentile: some seconds of any camera.
WINDOW = 256
# Seconds without a frame after which a camera counts as silent.
SILENCE = 3.0
# Of a slow or uneven camera: so many of its own pauses.
PERIODS = 3.0
# Losses between two reports that are no accident: so many, and so large a share.
FEW_LOST = 3
LOST_SHARE = 0.1
COUNTERS = ('received', 'classified', 'dropped', 'lost', 'rejected', 'failed',
            'pictures_skipped')
NUMBERED = ('dropped', 'lost')


@dataclass
class CameraStatistics:
    """
    What happened to the frames of one camera.

    received: arrived. classified: answered. dropped: replaced by a newer one while the network
    was busy. lost: published, but never arrived. rejected: not a usable image. failed: the network
    raised. numbered: the middleware numbers the images of a publisher. alone: there is only one;
    dropped and lost are known where both hold. Safe across threads.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    latencies: deque = field(default_factory=lambda: deque(maxlen=WINDOW))
    in_node: deque = field(default_factory=lambda: deque(maxlen=WINDOW))
    inference: deque = field(default_factory=lambda: deque(maxlen=WINDOW))
    numbered: bool = True
    alone: bool = True
    last_arrival: float = 0.0
    last_problem: str = ''
    last_problem_at: float = 0.0
    lost_share: float = 0.0
    _problems_told: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _previous: tuple[float, int, int, int] = field(
        default_factory=lambda: (time.monotonic(), 0, 0, 0))

    def count(self, name: str, frames: int = 1, problem: str = '') -> None:
        """Count frames under a name of COUNTERS; problem: what was wrong with the last one."""
        with self._lock:
            self.counts[name] += frames
            if name == 'received':
                self.last_arrival = time.monotonic()
            if problem:
                self.last_problem, self.last_problem_at = problem, time.monotonic()

    def answered(self, latency: float | None, in_node: float, inference: float) -> None:
        """
        Count an answer, with seconds to its publishing and of the network.

        latency: from the image's stamp, None where it has none or no time has come yet; in_node:
        from when it was taken out of the middleware; inference: preparing the picture and running
        the network.
        """
        with self._lock:
            self.counts['classified'] += 1
            if latency is not None:
                self.latencies.append(latency)
            self.in_node.append(in_node)
            self.inference.append(inference)

    def snapshot(self) -> dict[str, str]:
        """Return what a person reads, rates counted since the last snapshot."""
        with self._lock:
            now = time.monotonic()
            then, received, classified, lost = self._previous
            self._previous = (now, self.counts['received'], self.counts['classified'],
                              self.counts['lost'])
            elapsed = max(now - then, 1e-6)
            fresh = self.counts['lost'] - lost
            published = fresh + self.counts['received'] - received
            # One image may be lost by accident, however few there are.
            self.lost_share = fresh / published if fresh >= FEW_LOST else 0.0
            values = {
                'input rate (Hz)': f'{(self.counts["received"] - received) / elapsed:.1f}',
                'output rate (Hz)': f'{(self.counts["classified"] - classified) / elapsed:.1f}',
                **{name.replace('_', ' '): str(count) for name, count in self.counts.items()}}
            if not self.numbered:
                values.update(dict.fromkeys(NUMBERED, 'not counted by this middleware'))
            elif not self.alone:
                values.update(dict.fromkeys(
                    NUMBERED, 'not counted while several publishers are there'))
            for name, series in (('latency', self.latencies), ('in node', self.in_node),
                                 ('inference', self.inference)):
                if series:
                    median, late = np.percentile(np.array(series) * 1000.0, (50, 95))
                    values[f'{name} median (ms)'] = f'{median:.1f}'
                    values[f'{name} 95 % (ms)'] = f'{late:.1f}'
            if self.last_problem:
                values['last problem'] = (
                    f'{self.last_problem} ({now - self.last_problem_at:.0f} s ago)')
            return values

    def take_problem(self) -> bool:
        """Tell whether a frame was rejected or failed since this was last asked."""
        with self._lock:
            problems = self.counts['rejected'] + self.counts['failed']
            fresh = problems > self._problems_told
            self._problems_told = problems
            return fresh

    def seconds_silent(self) -> float | None:
        """Return the time since the last frame, or None before the first."""
        with self._lock:
            return time.monotonic() - self.last_arrival if self.last_arrival else None


def node_status(name: str, failure: str, classifier: Classifier | None, state: str
                ) -> DiagnosticStatus:
    """Say what the node runs and whether it can; state: in words, where nothing is wrong."""
    values = {}
    if classifier is not None:
        network = classifier.network
        values = {'architecture': network.architecture, 'weights': network.weights,
                  'classes': str(len(network.labels)), 'device': classifier.device_reason,
                  'backend': classifier.backend_reason}
    if failure:
        return status(name, DiagnosticStatus.ERROR, failure, values)
    if classifier is not None and not classifier.network.trained:
        return status(name, DiagnosticStatus.WARN, 'random weights: the answers mean nothing',
                      values)
    return status(name, DiagnosticStatus.OK, state, values)


def camera_status(name: str, statistics: CameraStatistics, publishers: int, busy: float = 0.0,
                  wrong_type: str = '', pause: float = 0.0) -> DiagnosticStatus:
    """
    Say how a camera's frames fare, and warn where none or only bad ones come.

    busy: seconds that the network has been working on its last frames. wrong_type: what others
    publish on the topic. pause: seconds that the camera takes from one image to the next, 0 where
    that is not known.
    """
    values = statistics.snapshot()
    silent = statistics.seconds_silent()
    longest = max(SILENCE, PERIODS * pause) if publishers else SILENCE
    if silent is not None and silent < longest:
        if statistics.take_problem():
            return status(name, DiagnosticStatus.WARN,
                          'frames are rejected or failed: see last problem', values)
        if statistics.lost_share > LOST_SHARE:
            return status(name, DiagnosticStatus.WARN,
                          f'{100 * statistics.lost_share:.0f} % of the images are lost on their '
                          'way', values)
        return status(name, DiagnosticStatus.OK, 'receiving', values)
    if busy >= SILENCE:
        return status(name, DiagnosticStatus.WARN,
                      f'the network has been busy for {busy:.0f} s with its last frames', values)
    since = 'no image yet' if silent is None else f'no image for {silent:.0f} s'
    where = f'{publishers} publisher(s) matched by name' if publishers else 'nobody publishes it'
    if wrong_type and not publishers:
        where = f'published is {wrong_type}'
    return status(name, DiagnosticStatus.WARN, f'{since}; {where}', values)


def status(name: str, level: bytes, message: str, values: dict[str, str]) -> DiagnosticStatus:
    """Make one status; level is a constant of DiagnosticStatus."""
    return DiagnosticStatus(
        level=level, name=name, message=message, hardware_id='',
        values=[KeyValue(key=key, value=value) for key, value in values.items()])


def array(statuses: list[DiagnosticStatus], stamp) -> DiagnosticArray:
    """Make the message for /diagnostics; stamp is a builtin_interfaces/Time."""
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)
