"""Which tapped networks are compiled and warm, and which of them are given up again."""

from __future__ import annotations

from collections.abc import Callable

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
        # The one used last at the end; replaced as a whole, as another thread reads it.
        self._ready: tuple[tuple[str, ...], ...] = ()
        self._failed: set[tuple[str, ...]] = set()

    def usable(self, taps: tuple[str, ...]) -> tuple[str, ...]:
        """
        Return a prepared set: the smallest that has all of `taps`, else the one with most of them.

        So nobody who sees something loses it while something else is compiled for somebody else.
        """
        wanted = set(taps)
        best = max(self._ready, default=(),
                   key=lambda ready: (len(wanted & set(ready)), -len(ready)))
        return best if wanted & set(best) else ()

    def failed(self, taps: tuple[str, ...]) -> bool:
        """Tell whether these could not be prepared, and never will be."""
        return taps in self._failed

    def is_settled(self, taps: tuple[str, ...]) -> bool:
        """Tell whether there is nothing to prepare, or to put in order, for these."""
        return not taps or taps in self._failed or self._ready[-1:] == (taps,)

    def prepare(self, wanted: Callable[[], tuple[str, ...]]) -> None:
        """
        Compile the network with the taps that are wanted and warm it up, once; give up the oldest.

        wanted: returns them as they are at that moment, which may be others after a second.
        """
        taps = wanted()
        if not taps or taps in self._failed:
            return
        before = self.usable(taps)
        if taps not in self._ready:
            try:
                self._classifier.predict([np.zeros((64, 64, 3), np.uint8)], taps)
            except Exception as error:  # engines and converters raise classes of many libraries
                self._failed.add(taps)
                self._warn(f'layers {", ".join(taps)} cannot be shown: {error}')
                return
        # What has served meanwhile may be in use at this moment, and is not given up.
        latest = [*dict.fromkeys((before, self.usable(wanted()), taps))]
        latest = [*(one for one in latest if one not in ((), taps)), taps]
        recent = (*(other for other in self._ready if other not in latest), *latest)
        kept = max(MOST, len(latest))
        self._ready = recent[-kept:]
        for other in recent[:-kept]:
            self._classifier.forget(other)
