"""The life of a node's process: start, spin until told to end, clean up, exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import faulthandler
import signal
import sys

from cnn_perception.ros.memory import keep_image_blocks
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

__all__ = ['run']

# Seconds that a node may take to end: its two threads have ten each for their last batch, and a
# machine that is short of memory reads what it needs for that from a busy disk.
PATIENCE = 60


def run(create: Callable[[], Node], arguments: Sequence[str] | None = None) -> int:
    """
    Create a node and spin it until SIGINT, SIGTERM or its own shutdown; returns an exit status.

    A parameter of the wrong type or out of range is a line in the log and status 1. The node's
    `stop` method, where it has one, is called before it is destroyed. For processes that do
    nothing else: one that has not ended within a minute of being told to is ended by force.
    """
    faulthandler.enable()
    keep_image_blocks()
    rclpy.init(args=list(arguments) if arguments is not None else None)
    node = None
    try:
        node = create()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (ParameterException, ValueError) as error:
        if node is not None:
            raise
        rclpy.logging.get_logger('cnn_perception').fatal(
            f'not started: {error}; see `ros2 param describe` or the README for what a parameter '
            'accepts')
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
                stop()
            node.destroy_node()
        rclpy.try_shutdown()
        # rclpy has put the handlers back that were there before it.
        ignore_signals()
        sys.stdout.flush()
    return 0


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
    if hasattr(signal, 'SIGALRM'):  # not on Windows
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds + 1)
