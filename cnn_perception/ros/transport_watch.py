"""Notices images that the middleware loses or delays, and says once what helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import threading
import time
from typing import NamedTuple

from cnn_perception.ros.transport import fast_dds_profile, other_users
import numpy as np

__all__ = ['TransportWatch']

SEEN = 90
ENOUGH = 30
KNOWN = 8
# Seconds between two images of a camera of which few are known.
SLOWEST = 60.0
# Seconds after which a camera that was heard should have been heard again.
PATIENCE = 5.0
# One image, or none, may be that of a slow camera.
LONGER = 10.0
# No middleware holds an image back for so many seconds.
OLD = 10.0
# Clocks that are kept in step agree better, seconds.
AHEAD = 1.0
# A loss or a delay that a camera's own irregularity does not explain.
LOST_SHARE = 0.15
LATE_PERIODS = 1.5
LATE_AT_LEAST = 0.05
CONFIG = '$(ros2 pkg prefix --share cnn_perception)/config'
# With static types (_cpp) and with dynamic ones (_dynamic_cpp).
FAST_DDS = 'rmw_fastrtps'
COMPRESSED = 'use image_transport compressed'
REMEDIES = {
    FAST_DDS: 'start the camera with a larger shared-memory segment: export '
    f'FASTRTPS_DEFAULT_PROFILES_FILE={CONFIG}/{{profile}} (Kilted and later: '
    f'FASTDDS_DEFAULT_PROFILES_FILE), or {COMPRESSED}',
    'rmw_cyclonedds_cpp': 'let sockets hold whole images: sudo sysctl -w '
    'net.core.rmem_max=16777216, start camera and classifier with '
    f'CYCLONEDDS_URI=file://{CONFIG}/cyclonedds.xml, or {COMPRESSED}',
    'rmw_zenoh_cpp': 'enable transport/shared_memory in the session configuration of camera and '
    f'classifier, or {COMPRESSED}'}
# Of a camera's steps: how many are whole multiples of the usual one, and how closely, where that
# is steady; and how often gaps must come and go, which a camera that becomes slower does once.
USUAL_STEP = 20
STEADY = 0.8
NEARLY_WHOLE = 0.2
COME_AND_GO = 6
# Images that one gap counts for at most: a longer one is a pause of the camera.
LONGEST_GAP = 10


class Arrival(NamedTuple):
    """
    An image that arrived.

    stamp: the image's; arrival: when it did, ns. age: between the two, 0 where simulated time
    makes nothing of it; transit: since it was published, ns. missing: how many were published
    between the one before and it; lost: how many of those never arrived, where the others were
    replaced by newer ones. waited: the publisher does not count its images, and nothing was there
    when this one was looked for, so that it has replaced none.
    """

    stamp: int
    arrival: int
    age: int
    transit: int
    missing: int
    lost: int
    waited: bool


ARRIVAL = np.dtype([(name, np.int64) for name in Arrival._fields])


class TransportWatch:
    """
    Watches the arrivals of one camera; `arrived` and `complaint` may run in two threads.

    middleware: its name, by which the remedy is chosen.
    """

    def __init__(self, middleware: str = FAST_DDS) -> None:
        """Begin to wait for images."""
        self._fast_dds = middleware.startswith(FAST_DDS)
        self._remedy = REMEDIES.get(FAST_DDS if self._fast_dds else middleware, COMPRESSED).format(
            profile=fast_dds_profile())
        self._lock = threading.Lock()
        self._matched_since: float | None = None
        self._heard = time.monotonic()
        self._arrivals: deque[Arrival] = deque(maxlen=SEEN)
        self._told: set[str] = set()

    def arrived(self, stamp: int, arrival: int, published: int = 0, missing: int = 0,
                lost: int = 0, waited: bool = False, simulated: bool = False) -> None:
        """
        Note an image; see `Arrival`.

        published: when it was, as the middleware notes it, ns; 0 where that is not known.
        simulated: stamps are not of the clock that the rest is of.
        """
        age = 0 if simulated else arrival - stamp
        transit = arrival - published if published else age
        with self._lock:
            self._heard = time.monotonic()
            self._arrivals.append(Arrival(stamp, arrival, age, transit, missing, lost, waited))

    def _seen(self) -> np.ndarray:
        with self._lock:
            return np.array(list(self._arrivals), ARRIVAL)

    def period(self) -> float:
        """
        Return the median time between two images sent, in ns; 0 before there were two.

        As long as it is known from a few only, the longest time counts.
        """
        seen = self._seen()
        if len(seen) < 2:
            return 0.0
        if len(seen) < KNOWN:
            return float(min(np.diff(seen['arrival']).max(), SLOWEST * 1e9))
        return float(np.median(np.diff(seen['arrival']) / (1 + seen['missing'][1:])))

    def longest_pause(self) -> float:
        """Return the longest of the last times between two images, in ns, at least `period`."""
        last = np.diff(self._seen()['arrival'][-KNOWN:]).max(initial=0)
        return max(self.period(), min(float(last), SLOWEST * 1e9))

    def resume(self) -> None:
        """Begin to wait again, after nobody did."""
        with self._lock:
            self._matched_since, self._heard = None, time.monotonic()
            self._arrivals.clear()

    def mistyped(self, published: str, expected: str) -> str:
        """Say, once, that only another type than the expected one is published."""
        return self._once('type', f'published is {published}, expected {expected}: set '
                          'image_transport to raw for images, to compressed for compressed ones, '
                          'or remap the topic')

    def unpublished(self, elsewhere: Callable[[], str]) -> str:
        """Say, once, that nobody publishes the topic; elsewhere: says where images are."""
        self._matched_since = None
        if len(self._seen()):
            self._heard = time.monotonic()  # whoever comes is given time for a first image
            return ''
        if time.monotonic() - self._heard < LONGER:
            return ''
        return self._once('nobody', f'nobody publishes it, {elsewhere()}')

    def complaint(self, publishers: int, incompatible: bool = False, busy: float = 0.0) -> str:
        """
        Return what is wrong and what helps, once for each kind of trouble, else ''.

        publishers: how many publish the topic. incompatible: their quality of service is not one
        that this subscription takes. busy: seconds for which nobody has looked for images.
        """
        if busy > PATIENCE / 2:
            return ''
        seen = self._seen()
        silent = time.monotonic() - self._heard
        if not len(seen):
            return self._silence(publishers, incompatible)
        published = len(seen) + int(seen['missing'].sum())
        lost = int(seen['lost'].sum())
        if published >= ENOUGH and lost > LOST_SHARE * published:
            return self._once('lost', f'{100 * lost / published:.0f} % of the images do not '
                              f'arrive; {self._remedy}')
        if (share := gaps(seen)) > LOST_SHARE:
            return self._once('lost', f'{100 * share:.0f} % of the images seem not to arrive, by '
                              f'the gaps between their stamps; {self._remedy}')
        if len(seen) < ENOUGH:
            slowest = (np.diff(seen['arrival']) / 1e9).max() if len(seen) > 1 else 0.0
            if publishers and silent > (max(PATIENCE, 3.0 * slowest) if slowest else LONGER):
                return self._once('stopped', f'{published - lost} image(s) arrived, then none for '
                                  f'{silent:.0f} s: no more were sent, or, if the camera has '
                                  f'published others, {self._remedy}')
            return ''
        return self._delay(seen)

    def _delay(self, seen: np.ndarray) -> str:
        steps = np.diff(seen['stamp']) / (1 + seen['missing'][1:])
        steps = steps[steps > 0]
        if len(steps) < ENOUGH // 2:
            return ''  # stamps that stand still say nothing
        period, delay = float(np.median(steps)), float(np.median(seen['age']))
        if delay > OLD * 1e9:
            return self._once('old', f'images carry stamps of {delay / 1e9:.0f} s before their '
                              'arrival: a recording, or the clock of another machine; latencies '
                              'in the diagnostics then mean nothing')
        if delay < -AHEAD * 1e9:
            return self._once('ahead', f'images carry stamps of {-delay / 1e9:.0f} s after their '
                              'arrival: the clock of the machine that they come from is ahead; '
                              'latencies in the diagnostics then mean nothing')
        # Not by the stamp: exposing and reading out take their time, too, and no remedy.
        late = float(np.median(seen['transit']))
        if late > max(LATE_PERIODS * period, LATE_AT_LEAST * 1e9):
            return self._once('late', f'images arrive {late / 1e6:.0f} ms after they were '
                              f'published, {late / period:.0f} periods late; if the clocks of '
                              f'both machines agree, {self._remedy}')
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
        if time.monotonic() - self._matched_since > LONGER:
            users = other_users() if self._fast_dds else ''
            same = ('Fast DDS hands images over within one user alone: where the camera runs as '
                    f'{users}, start both as one user; else ') if users else ''
            return self._once('silent', f'{publishers} publisher(s) of this topic, but no image '
                              f'has arrived: none was sent yet, or, if the camera '
                              f'publishes, {same}{self._remedy}')
        return ''

    def _once(self, kind: str, text: str) -> str:
        if kind in self._told:
            return ''
        self._told.add(kind)
        return text


def gaps(seen: np.ndarray) -> float:
    """
    Return the share of a steady camera's images that were waited for and did not come.

    seen: (N,) of ARRIVAL. 0 where the camera counts its images, is not steady, or where that is
    not known yet.
    """
    steps, waited = np.diff(seen['stamp']), seen['waited'][1:]
    if len(steps) < ENOUGH or not waited.any() or steps.min() <= 0:
        return 0.0
    usual = np.percentile(steps, USUAL_STEP)
    whole = np.rint(steps / usual)
    steady = np.abs(steps / usual - whole) < NEARLY_WHOLE
    if steady.mean() < STEADY or np.count_nonzero(np.diff(whole > 1)) < COME_AND_GO:
        return 0.0
    # What came while the network worked has been replaced, and is no gap.
    missing = np.where(waited, np.minimum(whole - 1, LONGEST_GAP), 0)
    return float(missing.sum() / (len(steps) + missing.sum()))
