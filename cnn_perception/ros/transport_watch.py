"""Notices images that the middleware loses or delays, and says once what helps."""

from __future__ import annotations

from collections import deque
import threading
import time

import numpy as np

__all__ = ['TransportWatch']

SEEN = 90
ENOUGH = 30
KNOWN = 8
# Seconds after which a publisher that is there should have been heard.
PATIENCE = 5.0
# An image that came alone may be that of a slow camera.
LONGER = 10.0
# No middleware holds an image back for so many seconds.
OLD = 10.0
# Clocks that are kept in step agree better, seconds.
AHEAD = 1.0
# A loss or a delay that a camera's own irregularity does not explain.
LOST_SHARE = 0.15
LATE_PERIODS = 1.5
LATE_AT_LEAST = 0.05
REMEDY = (
    'start the camera with a larger shared-memory segment: export '
    'FASTRTPS_DEFAULT_PROFILES_FILE=$(ros2 pkg prefix --share cnn_perception)/config/fastdds.xml '
    '(Kilted and later: FASTDDS_DEFAULT_PROFILES_FILE), or use image_transport compressed')


class TransportWatch:
    """Watches the arrivals of one camera; `arrived` and `complaint` may run in two threads."""

    def __init__(self) -> None:
        """Begin to wait for images."""
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._matched_since: float | None = None
        self._heard = time.monotonic()
        self._arrivals: deque[tuple[int, int, int, int]] = deque(maxlen=SEEN)
        self._told: set[str] = set()

    def arrived(self, stamp: int, now: int, missing: int = 0, lost: int = 0) -> None:
        """
        Note an image: its stamp and the time of its arrival, in ns of the same clock.

        missing: how many were published between the one before and it; lost: how many of those
        never arrived, where the others were replaced by newer ones.
        """
        with self._lock:
            self._heard = time.monotonic()
            self._arrivals.append((stamp, now, missing, lost))

    def period(self) -> float:
        """Return the median time between two images sent, in ns; 0 before it is known."""
        with self._lock:
            arrivals = np.array(self._arrivals, np.int64).reshape(-1, 4)
        if len(arrivals) < KNOWN:
            return 0.0
        return float(np.median(np.diff(arrivals[:, 1]) / (1 + arrivals[1:, 2])))

    def disregard(self) -> None:
        """Take back what was said to be missing before the last image."""
        with self._lock:
            if self._arrivals:
                self._arrivals.append((*self._arrivals.pop()[:2], 0, 0))

    def resume(self) -> None:
        """Begin to wait again, after nobody did."""
        with self._lock:
            self._matched_since, self._heard = None, time.monotonic()

    def mistyped(self, published: str, expected: str) -> str:
        """Say, once, that only another type than the expected one is published."""
        return self._once('type', f'published is {published}, expected {expected}: set '
                          'image_transport to raw for images, to compressed for compressed ones, '
                          'or remap the topic')

    def complaint(self, publishers: int, incompatible: bool = False, busy: float = 0.0) -> str:
        """
        Return what is wrong and what helps, once for each kind of trouble, else ''.

        publishers: how many publish the topic. incompatible: their quality of service is not one
        that this subscription takes. busy: seconds for which nobody has looked for images.
        """
        if busy > PATIENCE / 2:
            return ''
        with self._lock:
            arrivals = np.array(self._arrivals, np.int64).reshape(-1, 4)
            silent = time.monotonic() - self._heard
        if not len(arrivals):
            return self._silence(publishers, incompatible)
        published = len(arrivals) + int(arrivals[:, 2].sum())
        lost = arrivals[:, 3].sum() / published
        if published >= ENOUGH and lost > LOST_SHARE:
            return self._once('lost', f'{100 * lost:.0f} % of the images do not arrive; {REMEDY}')
        if len(arrivals) < ENOUGH:
            slowest = (np.diff(arrivals[:, 1]) / 1e9).max() if len(arrivals) > 1 else 0.0
            if publishers and silent > (max(PATIENCE, 3.0 * slowest) if slowest else LONGER):
                return self._once('stopped', f'{len(arrivals)} image(s) arrived, then none for '
                                  f'{silent:.0f} s; if the camera still publishes, {REMEDY}')
            return ''
        steps = np.diff(arrivals[:, 0]) / (1 + arrivals[1:, 2])
        steps = steps[steps > 0]
        if len(steps) < ENOUGH // 2:
            return ''  # stamps that stand still say nothing
        period = float(np.median(steps))
        delay = float(np.median(arrivals[:, 1] - arrivals[:, 0]))
        if delay > OLD * 1e9:
            return self._once('old', f'images carry stamps of {delay / 1e9:.0f} s before their '
                              'arrival: a recording, or the clock of another machine; latencies '
                              'in the diagnostics then mean nothing')
        if delay < -AHEAD * 1e9:
            return self._once('ahead', f'images carry stamps of {-delay / 1e9:.0f} s after their '
                              'arrival: the clock of the machine that they come from is ahead; '
                              'latencies in the diagnostics then mean nothing')
        if delay > max(LATE_PERIODS * period, LATE_AT_LEAST * 1e9):
            return self._once('late', f'images arrive {delay / 1e6:.0f} ms after their stamp, '
                                      f'{delay / period:.0f} periods late; if the clocks of both '
                                      f'machines agree, {REMEDY}')
        return ''

    def _silence(self, publishers: int, incompatible: bool) -> str:
        if publishers == 0:
            self._matched_since = None
            return ''
        if self._matched_since is None:
            self._matched_since = time.monotonic()
        if incompatible:
            return self._once('incompatible', 'a publisher is there, but it offers best effort '
                              'and qos.reliability is reliable: set qos.reliability to '
                              'best_effort')
        if time.monotonic() - self._matched_since > PATIENCE:
            return self._once('silent', f'{publishers} publisher(s) of this topic, but no image '
                              f'has arrived; {REMEDY}')
        return ''

    def _once(self, kind: str, text: str) -> str:
        if kind in self._told:
            return ''
        self._told.add(kind)
        return text
