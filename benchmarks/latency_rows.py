"""The rows about time: in the node, from stamp to answer, with pictures, from the start."""

from __future__ import annotations

from dataclasses import dataclass
import statistics
import time

from diagnostic_msgs.msg import DiagnosticArray
from processes import (
    ClassifierProcess, close, Commanded, ForwardProcess, Listener, Process, RATE, silenced)
from rows import Row
import rclpy
from unwatched import unwatched

__all__ = ['debug_cost', 'debug_unwatched', 'in_node', 'stamp_to_answer', 'start_up']

# Seconds of each turn.
TURN = 2.0


@dataclass(frozen=True)
class Turns:
    """Seconds of the bare forward pass and of the node, each beside the same camera."""

    backend: str
    bare: float
    in_node: float
    answers: list[dict[str, float]]

    def median(self, key: str) -> float:
        """Return the median of what the listener found in its turns."""
        return statistics.median(run[key] for run in self.answers)


def in_turns(rounds: int, architecture: str, size: str) -> Turns:
    """Run the bare forward pass and the node in turns, beside a camera of this size at 30 Hz."""
    forward = ForwardProcess('--architecture', architecture, '--size', size)
    node = ClassifierProcess(architecture=architecture, weights=weights_of(architecture))
    listener = Listener()
    reports: list[DiagnosticArray] = []
    listener.node.create_subscription(DiagnosticArray, '/diagnostics', reports.append, 10)
    # Until everybody has found everybody, images may be missed.
    listener.run(RATE, 1.0, size)
    bare, inside, answers = [], [], []
    for _ in range(2 * rounds):
        # Both beside the same sender: what it does to the caches is not the node's doing.
        with silenced(node, listener.node, ['image']):
            forward.begin(rate=RATE, seconds=TURN)
            listener.run(RATE, TURN, size)
            bare.append(forward.result()['median'])
        reports.clear()
        answers.append(listener.run(RATE, TURN, size))
        inside.append(diagnosed(reports, 'in node median (ms)') / 1000.0)
    close(listener, node, forward)
    return Turns(forward.backend, statistics.median(bare), statistics.median(inside), answers)


def in_node(rounds: int, architecture: str) -> list[Row]:
    """Compare the time from a message's arrival to its answer with the bare forward pass."""
    return [compared(in_turns(rounds, architecture, '640x480'), architecture)]


def compared(turns: Turns, architecture: str) -> Row:
    """Say what the node adds to the bare forward pass."""
    base, inside = turns.bare, turns.in_node
    ratio, extra = inside / base, 1000.0 * (inside - base)
    if base >= 0.015:
        target, reached = 'ratio at most 1.06', ratio <= 1.06
    elif base >= 0.004:
        target, reached = 'ratio at most 1.15', ratio <= 1.15
    else:
        target, reached = 'at most +1 ms', extra <= 1.0
    return Row(f'in-node latency over bare forward, {architecture} ({turns.backend})',
               f'{1000 * inside:.1f} / {1000 * base:.1f} ms: ratio {ratio:.2f}, {extra:+.1f} ms',
               target, reached)


def stamp_to_answer(rounds: int, size: str, allowance: float) -> list[Row]:
    """Measure from the image's stamp to the answer's arrival in another process."""
    turns = in_turns(rounds, 'efficientnet_lite0', size)
    base, received = turns.bare, turns.median('received')
    median, late = turns.median('median'), turns.median('late')
    sent, answered = (sum(int(run[key]) for run in turns.answers) for key in ('sent', 'answers'))
    extra = 1000.0 * (received - base)
    what = f'stamp to answer in another process, {size} at 30 Hz'
    rows = [Row(what, f'{1000 * received:.1f} ms = forward {1000 * base:.1f} + {extra:.1f} ms; '
                f'{1000 * (median - received):.1f} ms more until rclpy calls back',
                f'forward + {allowance:.0f} ms', extra <= allowance),
            Row(f'{what}, 95 %', f'{1000 * late:.1f} ms = {late / median:.2f} medians',
                'under 2 medians', late < 2 * median),
            Row(f'{what}, lost', f'{sent - answered} of {sent}', '0', sent == answered)]
    # The node is the one of the rows above, at its own size of image.
    return [compared(turns, 'efficientnet_lite0'), *rows] if size == '640x480' else rows


def start_up(rounds: int) -> list[Row]:
    """Measure from the start of the process to the first answer."""
    times = []
    for _ in range(rounds):
        listener = Listener()
        camera = Commanded('sender.py')
        camera.begin(rate=RATE, seconds=60.0, size='640x480', topics=['image'])
        node = Process(['-m', 'cnn_perception.ros.start', 'classifier'])
        # Until this process has found the node's answers too, which can come after the images.
        while not listener.arrivals:
            if time.monotonic() > node.started + 60.0:
                raise RuntimeError('no answer within a minute of the start')
            rclpy.spin_once(listener.node, timeout_sec=0.05)
        camera.process.terminate()
        # The sender waits half a second after it has found the node.
        times.append(listener.arrivals[0] - node.started - 0.5)
        close(listener, node, camera)
    median = statistics.median(times)
    return [Row('start to first answer, efficientnet_lite0', f'{median:.1f} s', 'at most 5 s',
                median <= 5.0)]


def debug_cost(rounds: int) -> list[Row]:
    """Compare the latency with and without four watched layers, ResNet-18."""
    layers = ['relu', 'layer1.1.relu_1', 'layer2.1.relu_1', 'layer4.1.relu_1']
    node = ClassifierProcess(architecture='resnet18', weights='none', debug__rate=10.0,
                             debug__layers=f'[{", ".join(layers)}]')
    plain, watched = [], []
    for _ in range(rounds):
        listener = Listener()
        listener.run(15.0, 2.0)
        plain.append(listener.run(15.0, 4.0)['median'])
        close(listener)
        listener = Listener()
        listener.watch([f'/classifier/debug/{layer.replace(".", "_")}' for layer in layers])
        listener.run(15.0, 2.0)
        watched.append(listener.run(15.0, 4.0)['median'])
        close(listener)
    close(node)
    base, seen = statistics.median(plain), statistics.median(watched)
    return [Row('four layers of ResNet-18 watched at 10 of 15 Hz, latency over unwatched',
                f'{1000 * seen:.1f} / {1000 * base:.1f} ms: {seen / base:.2f}', 'at most 1.4',
                seen <= 1.4 * base)]


def debug_unwatched(rounds: int) -> list[Row]:
    """Compare a node that has debug pictures nobody watches with one that has none."""
    slower, busier = unwatched('mobilenet_v3_small', 600 * rounds)
    return [Row(f'nobody watches, mobilenet_v3_small: {what} over that without debug pictures',
                f'{ratio:.3f}', 'at most 1.02', ratio <= 1.02)
            for what, ratio in (('latency', slower), ('CPU time', busier))]


def weights_of(architecture: str) -> str:
    """Real weights where they come with a package; time does not depend on them."""
    return 'default' if architecture == 'efficientnet_lite0' else 'none'


def diagnosed(reports: list[DiagnosticArray], key: str) -> float:
    """Return a number that the node's last report holds."""
    values = [float(entry.value) for report in reports for status in report.status
              for entry in status.values if entry.key == key]
    return values[-1] if values else float('nan')
