"""What the package logs outside ROS appears in the node's log."""

from __future__ import annotations

from collections.abc import Callable
import logging
import math
import threading
import time

from rclpy.node import Node

__all__ = ['forward_log', 'MOST', 'Throttled']

# Seconds between two warnings of one kind, and how many kinds there may be in that time.
PERIOD = 5.0
MOST = 50


class Throttled:
    """
    Hands warnings on, each kind at most every five seconds.

    rclpy's own throttle goes by the line that logs: there the first camera's warning hides those
    of all others. Several threads may share one.
    """

    def __init__(self, warn: Callable[[str], object]) -> None:
        """Begin with nothing said."""
        self._warn = warn
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, text: str, kind: str = '') -> None:
        """Warn, unless one of this kind was given just now; the text itself is a kind."""
        if self._speaks(kind or text, time.monotonic()):
            self._warn(text)

    def _speaks(self, kind: str, now: float) -> bool:
        with self._lock:
            if now - self._said.get(kind, -math.inf) < PERIOD:
                return False
            if len(self._said) >= MOST:
                # The one that is silent for longest; where all have just spoken, no more do.
                oldest = min(self._said, key=lambda name: self._said[name])
                if now - self._said[oldest] < PERIOD:
                    return False
                del self._said[oldest]
            self._said[kind] = now
            return True


class NodeHandler(logging.Handler):
    """Hands records of Python's logging to a node's logger."""

    def __init__(self, node: Node) -> None:
        """Forward everything from INFO upwards."""
        super().__init__(logging.INFO)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record at its own level."""
        # rclpy remembers the severity of each place that logs, so that each needs its own line.
        if record.levelno >= logging.ERROR:
            self._logger.error(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self._logger.warning(record.getMessage())
        else:
            self._logger.info(record.getMessage())


def forward_log(node: Node) -> None:
    """Forward the package's log to a node's, instead of to any node before it."""
    logger = logging.getLogger('cnn_perception')
    for handler in [*logger.handlers]:
        if isinstance(handler, NodeHandler):
            logger.removeHandler(handler)
    logger.addHandler(NodeHandler(node))
    logger.setLevel(logging.INFO)
    logger.propagate = False
