"""A thread that does what takes time, so that the executor stays free for everything else."""

from __future__ import annotations

from collections.abc import Callable
import os
import sys
import threading
import time
import traceback
from typing import Protocol

from cnn_perception.ros.newest import Letter

__all__ = ['Worker']

# Seconds after an error that nobody expected: one that stays must not take a whole core.
PAUSE = 0.05


class Source(Protocol):
    """Where a worker's work comes from."""

    def take(self) -> list[Letter]:
        """Wait for work; an empty list says that there will be no more."""

    def close(self) -> None:
        """Have `take` return for the last time."""


class Worker:
    """Takes mail and hands it to `process` until it is stopped; outlives whatever that raises."""

    def __init__(self, name: str, mailbox: Source, process: Callable[[list[Letter]], None],
                 report: Callable[[str], None], nice: int = 0) -> None:
        """
        Prepare the thread; report gets the text of an error that `process` did not expect.

        nice: by how much, of 19, the process's other threads go before this one; on Linux.
        """
        self.name = name
        self._nice = nice
        self._mailbox = mailbox
        self._process = process
        self._report = report
        # A daemon, so that a hung driver cannot keep a process alive that was told to end.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to take mail."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> bool:
        """Close the mailbox and wait for the current batch; returns False where it hangs."""
        self._mailbox.close()
        self._thread.join(timeout)
        return self.ended()

    def ended(self) -> bool:
        """Tell whether the thread has ended."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        if self._nice and sys.platform == 'linux':
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own,
                           os.getpriority(os.PRIO_PROCESS, own) + self._nice)
        ended = False
        while not ended:
            try:
                if letters := self._mailbox.take():
                    self._process(letters)
                else:
                    ended = True
            except Exception as error:
                self._report(f'{type(error).__name__}: {error}\n{traceback.format_exc()}')
                time.sleep(PAUSE)
