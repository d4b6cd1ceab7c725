"""Tells where a node waits for the time of a simulation that does not come."""

from __future__ import annotations

import time

from rclpy.node import Node

__all__ = ['ClockWatch']

# Seconds that a simulation may take to send its first time.
PATIENCE = 5.0


class ClockWatch:
    """Watches a node's clock; meanwhile: what goes wrong as long as it stands, in words."""

    def __init__(self, node: Node, meanwhile: str) -> None:
        """Begin to watch."""
        self._node = node
        self._meanwhile = meanwhile
        self._stood_since: float | None = None
        self._told = False

    def stands(self) -> bool:
        """Tell whether there is no time yet; where it does not come, the log says so once."""
        clock = self._node.get_clock()
        if not (clock.ros_time_is_active and clock.now().nanoseconds == 0):
            self._stood_since = None
            return False
        # From when it was first seen: while a network is loaded no time is heard.
        now = time.monotonic()
        self._stood_since = self._stood_since or now
        if not self._told and now > self._stood_since + PATIENCE:
            self._told = True
            self._node.get_logger().warning(
                'use_sim_time is true, but no time comes on /clock: start the simulation, or '
                f'rosbag2 with --clock; until then {self._meanwhile}')
        return True
