"""The life of a node's process: start, spin until told to end, clean up, exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import faulthandler
import os
import re
import signal
import sys
import threading
import time
from types import FrameType

from cnn_perception.console import give_outputs
from cnn_perception.ros.memory import keep_image_blocks
import rclpy
from rclpy.exceptions import (
    InvalidParameterTypeException, ParameterException, ParameterUninitializedException)
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

__all__ = ['cause', 'run']

# Seconds that a node may take to end: its three threads have ten each for their last work, and a
# machine that is short of memory reads what it needs for that from a busy disk.
PATIENCE = 60
# Seconds for which a thread that computes in Python keeps one waiting that could go on. With
# Python's own 0.005 the answers to images took 39 instead of 27 ms while ~/describe was answered.
SWITCH = 0.0005


def run(create: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """
    Create a node and spin it until SIGINT, SIGTERM or its own shutdown; returns an exit status.

    A parameter of the wrong type or out of range is a line in the log and status 1. The node's
    `stop` method, where it has one, is called before it is destroyed. For processes that do
    nothing else: one that has not ended within a minute of being told to is ended by force, and
    so, at once, is one whose `stop` returns False, as a thread of its own is left behind.
    """
    give_outputs()
    faulthandler.enable()
    keep_image_blocks()
    sys.setswitchinterval(SWITCH)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        rclpy.init(args=list(arguments) if arguments is not None else None)
    except KeyboardInterrupt:
        return 1
    except (RuntimeError, UnicodeError) as error:
        # A file that is not there, or no YAML; a rule or an argument that is none; no log.
        print(f'not started: {cause(error)}', file=sys.stderr)
        return 1
    threading.Thread(target=watch, name='watch', daemon=True).start()
    node, ended = None, True
    try:
        node = create()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (ParameterException, ValueError) as error:
        if node is not None:
            raise
        rclpy.logging.get_logger('cnn_perception').fatal(f'not started: {error}{remedy(error)}')
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # Told to end while it was starting, a node trips over the context that is gone.
        if rclpy.ok():
            raise
    finally:
        # A second Ctrl-C, or the launcher's beside the terminal's, must not break the clean-up.
        ignore_signals()
        end_by_force(PATIENCE)
        if node is not None:
            stop = getattr(node, 'stop', None)
            if stop is not None:
                ended = stop() is not False
            node.destroy_node()
        rclpy.try_shutdown()
        # rclpy has put the handlers back that were there before it.
        ignore_signals()
        sys.stdout.flush()
        if not ended:
            # The libraries' own threads cannot be taken down under one that still runs in them.
            sys.stderr.flush()
            os._exit(1)
    return 0


def cause(error: Exception) -> str:
    """Say why `rclpy.init` failed, and what to do where nobody would think of it."""
    text = str(error).partition(', at ')[0]
    if isinstance(error, UnicodeError):
        text += ('; the locale of this process has no such letters: set LANG=C.UTF-8, or '
                 'PYTHONUTF8=1')
    elif isinstance(error, rclpy_implementation.UnknownROSArgsError):
        text = f'unknown arguments behind --ros-args: {text}'
    elif re.search(r'log(ging)? directory', text):
        text += '; set ROS_LOG_DIR to a folder that can be written'
    return text


def remedy(error: Exception) -> str:
    """Say what to write instead of a parameter's value that was refused; '' where that is said."""
    if isinstance(error, ParameterUninitializedException):
        return "; an empty list has no type: write [''] for no names and no layers"
    if not isinstance(error, InvalidParameterTypeException):
        return ''
    text, _, expected = str(error).rpartition('expecting type')
    given = text.rpartition('of type')[2]
    if 'ARRAY' in expected and 'ARRAY' not in given:
        return "; several are written in brackets, and one as well: ['a'] or [0.5]"
    if 'DOUBLE' in expected and 'INTEGER' in given:
        return '; numbers are written with a point here: 1.0 for 1'
    if 'STRING' in expected:
        return '; texts that look like something else are written in quotes: "1" for 1'
    return '; the table in the README has the type of each'


def interrupt(number: int, frame: FrameType | None) -> None:
    """
    Raise KeyboardInterrupt as Python's own handler does, but not out of a destructor.

    From there it would get nowhere, and be printed; the executor ends when rclpy's handler, which
    has called this one, shuts its context down.
    """
    while frame is not None:
        if frame.f_code.co_name == '__del__':
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def watch() -> None:
    """End the process by force where whatever it does does not let it notice that it is over."""
    while rclpy.ok():
        time.sleep(1.0)
    end_by_force(PATIENCE)


def ignore_signals() -> None:
    """Let SIGINT and SIGTERM pass without effect, for a process that is ending anyway."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def end_by_force(seconds: int) -> None:
    """
    End this process after so long, whatever hangs, and say where: status 1, or that of SIGALRM.

    A driver or middleware that never returns cannot be argued with, and a process that stays
    keeps its camera, its device and its name on the network.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    # Python stops watching before the libraries' own destructors run; the kernel does not.
    if hasattr(signal, 'alarm'):  # not on Windows
        signal.alarm(seconds + 1)
