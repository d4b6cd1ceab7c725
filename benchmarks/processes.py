"""The processes of a benchmark, and what a listener in another process receives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib
from functools import cache
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from asking import set_parameter
from cnn_perception.ros.transport import image_environment
import numpy as np
import rclpy
import rclpy.node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# Images a second, as cameras send them.
RATE = 30.0
RUNNING: list[Process | Commanded] = []
"""The processes that have been started and not ended."""


def enter_ros() -> None:
    """Begin in a domain of one's own on this machine, unless the user chose another."""
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init(args=[])


def environment() -> dict[str, str]:
    """Return the environment of every process: this source tree, large shared memory."""
    result = image_environment()
    # Once it has run, this source tree is compiled, as an installed package is.
    result.pop('PYTHONDONTWRITEBYTECODE', None)
    result['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), result.get('PYTHONPATH')]))
    return result


def await_end(process: subprocess.Popen) -> None:
    """Wait for a process that was told to end; one that does not is killed."""
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Process:
    """A child process that logs to a file and is ended as Ctrl-C would."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it."""
        self.log = tempfile.NamedTemporaryFile('w+', suffix='.log')  # noqa: SIM115
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command], env=environment(), stdout=self.log,
            stderr=subprocess.STDOUT)
        RUNNING.append(self)

    def wait_for(self, text: str, timeout: float = 120.0) -> float:
        """Wait for a text in the log; returns the seconds since the start."""
        while text not in (content := Path(self.log.name).read_text()):
            if self.process.poll() is not None or time.monotonic() > self.started + timeout:
                raise RuntimeError(f'"{text}" never came:\n{content}')
            time.sleep(0.01)
        return time.monotonic() - self.started

    def resident(self) -> int:
        """Return the resident memory in bytes."""
        pages = Path(f'/proc/{self.process.pid}/statm').read_text().split()[1]
        return int(pages) * os.sysconf('SC_PAGE_SIZE')

    def stop(self) -> None:
        """End it."""
        RUNNING.remove(self)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        await_end(self.process)


class ClassifierProcess(Process):
    """The package's node."""

    def __init__(self, **parameters: object) -> None:
        """Start it and wait until it is ready."""
        arguments = []
        for name, value in parameters.items():
            arguments += ['-p', f'{name.replace("__", ".")}:={value}']
        super().__init__(
            ['-m', 'cnn_perception.ros.start', 'classifier', '--ros-args', *arguments])
        self.ready = self.wait_for('ready in')

    def enable(self, asker: rclpy.node.Node, value: bool) -> None:
        """Have it classify, or let go of its images."""
        set_parameter(asker, 'enable', value)


class Commanded:
    """A script in a process of its own: takes a line of JSON as an order, and answers with one."""

    def __init__(self, script: str, *arguments: str) -> None:
        """Start it and wait until it is ready; `ready` is what it then says."""
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / script), *arguments], env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        RUNNING.append(self)
        self.ready = self.result()

    def begin(self, **order: object) -> None:
        """Give an order."""
        self.process.stdin.write(json.dumps(order) + '\n')
        self.process.stdin.flush()

    def finished(self) -> bool:
        """Tell whether the order's result, or the end of the process, is there."""
        return bool(select.select([self.process.stdout], [], [], 0.0)[0])

    def result(self) -> dict[str, Any]:
        """Wait for the order's result."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f'{self.process.args[1]} ended')
        return json.loads(line)

    def ask(self, **order: object) -> dict[str, Any]:
        """Give an order and wait for its result."""
        self.begin(**order)
        return self.result()

    def stop(self) -> None:
        """End it, once its order is done."""
        RUNNING.remove(self)
        self.process.stdin.close()
        await_end(self.process)


class ForwardProcess(Commanded):
    """The bare forward loop, run on demand."""

    def __init__(self, *arguments: str) -> None:
        """Start it and wait until it is warm."""
        super().__init__('forward.py', *arguments)
        self.backend = self.ready['backend']

    def run(self, rate: float, seconds: float) -> dict[str, float]:
        """Run for so long, at a rate or (0) as fast as it can."""
        return self.ask(rate=rate, seconds=seconds)


@cache
def helper(script: str) -> Commanded:
    """Return the process that sends or takes images; its start takes as long as a measurement."""
    return Commanded(script)


class Listener:
    """Receives answers in this process and notes how old each image then is."""

    def __init__(self, topics: Sequence[str] = ('/classifier/classification',)) -> None:
        """Subscribe."""
        self.node = rclpy.create_node('listener')
        self.latencies: list[float] = []
        # The same to the middleware's arrival in this process: rclpy takes a while to call back.
        self.received: list[float] = []
        self.arrivals: list[float] = []
        for topic in topics:
            self.node.create_subscription(Classification, topic, self._answer,
                                          QoSProfile(depth=100))

    def watch(self, topics: Sequence[str]) -> None:
        """Subscribe to debug pictures, as a viewer does."""
        for topic in topics:
            self.node.create_subscription(Image, topic, lambda message: None,
                                          QoSProfile(depth=1))

    def _answer(self, message: Classification, info: Mapping[str, int]) -> None:
        stamp = message.header.stamp.sec * 10 ** 9 + message.header.stamp.nanosec
        self.latencies.append((self.node.get_clock().now().nanoseconds - stamp) * 1e-9)
        self.received.append((info['received_timestamp'] - stamp) * 1e-9)
        self.arrivals.append(time.monotonic())

    def run(self, rate: float, seconds: float, size: str = '640x480',
            topics: Sequence[str] = ('image',)) -> dict[str, float]:
        """Have a sender run and summarise what came of it."""
        for series in (self.latencies, self.received, self.arrivals):
            series.clear()
        camera = helper('sender.py')
        camera.begin(rate=rate, seconds=seconds, size=size, topics=[*topics])
        while not camera.finished():
            rclpy.spin_once(self.node, timeout_sec=0.05)
        sent = camera.result()
        # The first answers are slower: caches, and pages of shared memory that are new.
        kept = np.array(self.latencies[5:] or [np.nan])
        received = np.array(self.received[5:] or [np.nan])
        span = self.arrivals[-1] - self.arrivals[0] if len(self.arrivals) > 1 else np.nan
        return {'sent': sent['sent'], 'answers': len(self.latencies),
                'median': float(np.median(kept)), 'received': float(np.median(received)),
                'late': float(np.percentile(kept, 95)),
                'rate': (len(self.arrivals) - 1) / span}

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()


@contextlib.contextmanager
def silenced(node: ClassifierProcess, asker: rclpy.node.Node, topics: Sequence[str]
             ) -> Iterator[None]:
    """Have the node take nothing, while somebody else takes what the same sender sends."""
    drain = helper('drain.py')
    node.enable(asker, False)
    drain.ask(topics=[*topics])
    try:
        yield
    finally:
        drain.ask(topics=[])
        node.enable(asker, True)


def end_all() -> None:
    """End what is still running."""
    for process in [*RUNNING]:
        process.stop()
    helper.cache_clear()


def close(*parts: Listener | Process | Commanded) -> None:
    """End listeners and processes."""
    for part in parts:
        part.close() if isinstance(part, Listener) else part.stop()
