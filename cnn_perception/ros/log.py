"""What the package logs outside ROS appears in the node's log."""

from __future__ import annotations

import logging

from rclpy.node import Node

__all__ = ['forward_log']


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
