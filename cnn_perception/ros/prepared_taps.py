"""Which tapped networks are compiled and warm, and which of them are given up again."""

from __future__ import annotations

from collections.abc import Callable
import threading

from cnn_perception.classifier import Classifier
import numpy as np

__all__ = ['PreparedTaps']

# The one in use and the one before it, as viewers come and go. Engines keep the weights once more
# for each: half a gigabyte for a VGG-16.
MOST = 2


class PreparedTaps:
    """
    The sets of taps that the network can be run with at once.

    `prepare` is for one thread; `usable` is asked by the one that classifies, the rest by the one
    that draws.
    """

    def __init__(self, classifier: Classifier, warn: Callable[[str], None]) -> None:
        """Begin with none; warn gets what cannot be shown, and why."""
        self._classifier = classifier
        self._warn = warn
        self._lock = threading.Lock()
        # The one used last at the end; replaced as a whole, as another thread reads it.
        self._ready: tuple[tuple[str, ...], ...] = ()
        self._in_use: tuple[str, ...] = ()
        self._failed: set[tuple[str, ...]] = set()

    def usable(self, taps: tuple[str, ...]) -> tuple[str, ...]:
        """
        Return a prepared set: the smallest that has all of `taps`, else the one with most of them.

        So nobody who sees something loses it while something else is compiled for somebody else.
        It is kept until this is asked again.
        """
        with self._lock:
            self._in_use = self._best(taps)
            return self._in_use

    def _best(self, taps: tuple[str, ...]) -> tuple[str, ...]:
        wanted = set(taps)
        best = max(self._ready, default=(),
                   key=lambda ready: (len(wanted & set(ready)), -len(ready)))
        return best if wanted & set(best) else ()

    def failed(self, taps: tuple[str, ...]) -> bool:
        """Tell whether these could not be prepared, and never will be."""
        return taps in self._failed

    def is_settled(self, taps: tuple[str, ...]) -> bool:
        """Tell whether there is nothing to prepare for these, or to give up."""
        return not taps or taps in self._failed or (
            self._ready[-1:] == (taps,) and len(self._ready) <= MOST)

    def prepare(self, wanted: Callable[[], tuple[str, ...]]) -> None:
        """
        Compile the network with the taps that are wanted and warm it up, once; give up the oldest.

        wanted: returns them as they are at that moment, which may be others after a second.
        """
        taps = wanted()
        if not taps or taps in self._failed:
            return
        if taps not in self._ready:
            try:
                self._classifier.predict([np.zeros((64, 64, 3), np.uint8)], taps)
            except Exception as error:  # engines and converters raise classes of many libraries
                self._failed.add(taps)
                self._warn(f'layers {", ".join(taps)} cannot be shown: {error}')
                return
        now = wanted()
        with self._lock:
            # What serves at this moment is not given up, nor what will serve in the next.
            serving = dict.fromkeys((self._in_use, self._best(now)))
            latest = (*(one for one in serving if one not in ((), taps)), taps)
            recent = (*(other for other in self._ready if other not in latest), *latest)
            kept = max(MOST, len(latest))
            self._ready = recent[-kept:]
        for other in recent[:-kept]:
            self._classifier.forget(other)
