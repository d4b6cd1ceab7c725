"""What programs do alike on a terminal, or without one: long answers, Ctrl-C, outputs."""

from __future__ import annotations

import os
import signal
import sys

__all__ = ['end_at_interrupts', 'give_outputs', 'raise_interrupts', 'write']


def write(text: str) -> None:
    """Write an answer to standard output, of which `head` may read only a part."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Without this Python complains while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def give_outputs() -> None:
    """
    Let what is written go nowhere where a process was started without standard streams.

    Otherwise the next file or socket that is opened takes their place, and what libraries print;
    one that a library has opened before keeps it.
    """
    for number, name in enumerate(('stdin', 'stdout', 'stderr')):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), 'w' if number else 'r',
                                         errors='backslashreplace'))


def end_at_interrupts() -> None:
    """Let Ctrl-C end this process at once, without a report of where it was."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_interrupts() -> None:
    """Let Ctrl-C raise KeyboardInterrupt again, where there is something to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
