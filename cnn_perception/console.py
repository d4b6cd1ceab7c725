"""What programs on a terminal do alike: long answers, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ['end_at_interrupts', 'raise_interrupts', 'write']


def write(text: str) -> None:
    """Write an answer to standard output, of which `head` may read only a part."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Without this Python complains while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end_at_interrupts() -> None:
    """Let Ctrl-C end this process at once, without a report of where it was."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, where there is something to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
