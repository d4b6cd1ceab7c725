"""Lines of the tables that the benchmarks print and record; needs no ROS 2."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table; reached None where the target is on another scale."""

    what: str
    measured: str
    target: str = ''
    reached: bool | None = None

    def line(self) -> str:
        """Write it as a line of the table."""
        verdict = {True: 'reached', False: 'MISSED', None: ''}[self.reached]
        return f'| {self.what} | {self.measured} | {self.target} | {verdict} |'
