"""
A node for many minutes, while people look at pictures, change parameters and restart it.

    make soak MINUTES=10

Two cameras send 640 x 480 at 30 Hz. Every few seconds other debug pictures are subscribed to and
other settings are made; every minute the node is disabled or taken through its whole life cycle.
What must come of it: answers go on, memory, threads and open files do not grow.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
import random
import re
import statistics
import sys
import time

from bench import RESULTS, settings
from asking import ask, set_parameter
from lifecycle_msgs.srv import ChangeState
from processes import (
    ClassifierProcess, close, Commanded, enter_ros, Listener, RATE)
import rclpy
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

CAMERAS = ('left', 'right')
PICTURES = ('overlay', 'cam', 'edges', 'top_patches', 'dashboard', 'early', 'middle', 'late')
CHANGES = {'debug.layers': [['auto'], ['blocks.1.0.bn1', 'bn2'], ['classifier']],
           'debug.channels': ['first 64', 'strongest 9', '0, 7, 500'],
           'debug.colormap': ['viridis', 'grey'], 'debug.rate': [0.0, 10.0], 'top_k': [1, 5]}
# lifecycle_msgs/Transition: deactivate, cleanup, configure, activate.
LIFE = (4, 2, 1, 3)
TURN = 5.0
DISTURBANCE = 60.0
# The first whole life cycle is over, and the network that came after it has been looked at.
WARM_UP = 200.0
# What the second half must answer, of what the first did: other pictures are looked at in each.
TIRED = 0.75
# And what the first half must answer, of what was sent.
LEAST = 0.3
# What may be added between the first and the last quarter.
LIMITS = {'resident memory, MiB': 40.0, 'threads': 1.0, 'open files': 4.0}


def main() -> int:
    """Run, print what was seen and record it; 1 where something grew or stopped."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--record', action='store_true', help='write results/soak_cpu.md')
    options = parser.parse_args()
    enter_ros()
    lines = soak(60.0 * options.minutes)
    print('\n'.join(lines))
    if options.record:
        (RESULTS / 'soak_cpu.md').write_text('\n'.join(
            ['# make soak', '', *settings('one run'), '', *lines, '']))
    rclpy.try_shutdown()
    return 1 if any('FAILED' in line for line in lines) else 0


def soak(seconds: float) -> list[str]:
    """Run for so long; returns the lines of a table."""
    node = ClassifierProcess(cameras=f'[{", ".join(CAMERAS)}]', debug__layers='[auto]')
    listener = Listener(())
    arrivals: dict[str, list[float]] = {name: [] for name in CAMERAS}
    for name, times in arrivals.items():
        listener.node.create_subscription(
            Classification, f'/classifier/{name}/classification',
            lambda message, times=times: times.append(time.monotonic()), QoSProfile(depth=100))
    camera = Commanded('sender.py')
    camera.begin(rate=RATE, seconds=seconds, size='640x480',
                 topics=[f'{name}/image' for name in CAMERAS])
    pictures: list[int] = []
    states: list[tuple[float, ...]] = []
    disturbances: list[tuple[float, float]] = []
    choose, began = random.Random(0), time.monotonic()
    while not camera.finished():
        watch(listener, choose, pictures)
        states.append((time.monotonic() - began, *state(node)))
        print('{:.0f} s: {:.0f} MiB, {:.0f} threads, {:.0f} files'.format(*states[-1]),
              file=sys.stderr)
        if time.monotonic() > began + (len(disturbances) + 1) * DISTURBANCE:
            start = time.monotonic()
            disturb(node, listener, len(disturbances) % 2 == 1)
            disturbances.append((start, time.monotonic()))
    sent = camera.result()['sent']
    log = Path(node.log.name).read_text()
    alive = node.process.poll() is None
    close(listener, node, camera)
    gaps = [later - earlier for times in arrivals.values()
            for earlier, later in itertools.pairwise(times)
            if not any(start <= later and earlier <= end for start, end in disturbances)]
    middle = began + seconds / 2
    complaints = sorted(set(re.findall(r'\[(?:ERROR|FATAL)\].*', log)))
    # How many can be answered beside all that is drawn is the processor's affair, not to tire.
    halves = {name: (sum(time < middle for time in times), sum(time >= middle for time in times))
              for name, times in arrivals.items()}
    rows = [('frames sent', str(sent), True),
            *((f'answered of camera {name} in the first and in the second half',
               f'{early}, {late}', late > TIRED * early and early > LEAST * sent / 4)
              for name, (early, late) in halves.items()),
            ('longest time without an answer, undisturbed', f'{max(gaps, default=0.0):.2f} s',
             bool(gaps) and max(gaps) < 2.0),
            ('pictures received', str(len(pictures)), len(pictures) > 0),
            ('disabled, or through the life cycle', f'{len(disturbances)} times', True),
            ('alive at the end, exit status', f'{alive}, {node.process.returncode}',
             alive and node.process.returncode == 0),
            ('errors in the log', '; '.join(complaints) or 'none', not complaints),
            *growth(states)]
    return [f'{seconds / 60:.0f} minutes, two cameras of 640x480 at 30 Hz, efficientnet_lite0',
            '', '| what | seen | |', '|---|---|---|',
            *(f'| {what} | {found} | {"ok" if good else "FAILED"} |'
              for what, found, good in rows)]


def watch(listener: Listener, choose: random.Random, pictures: list[int]) -> None:
    """Look at a few pictures for a while, with one setting changed."""
    watched = [listener.node.create_subscription(
        Image, f'/classifier/{camera}/debug/{picture}',
        lambda message: pictures.append(message.width), 1)
        for camera in CAMERAS for picture in choose.sample(PICTURES, choose.randint(0, 4))]
    name = choose.choice([*CHANGES])
    set_parameter(listener.node, name, choose.choice(CHANGES[name]))
    spin(listener, TURN)
    for subscription in watched:
        listener.node.destroy_subscription(subscription)


def disturb(node: ClassifierProcess, listener: Listener, whole: bool) -> None:
    """Disable and enable the node, or take it through its whole life cycle."""
    if whole:
        change_state(listener)
    else:
        node.enable(listener.node, False)
        spin(listener, 1.0)
        node.enable(listener.node, True)
    spin(listener, 1.0)


def growth(states: list[tuple[float, ...]]) -> list[tuple[str, str, bool]]:
    """Compare (seconds, MiB, threads, files) early and late, once all has been used."""
    warm = [entry for entry in states if entry[0] > WARM_UP]
    if not warm:
        return [(', '.join(LIMITS), f'not compared, as that begins after {WARM_UP:.0f} s', False)]
    part = max(1, len(warm) // 4)
    rows = []
    for index, (what, allowed) in enumerate(LIMITS.items(), start=1):
        first, last = (statistics.median(entry[index] for entry in entries)
                       for entries in (warm[:part], warm[-part:]))
        rows.append((f'{what}: first and last quarter after {WARM_UP:.0f} s',
                     f'{first:.0f}, {last:.0f}', last <= first + allowed))
    return rows


def spin(listener: Listener, seconds: float) -> None:
    """Receive for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rclpy.spin_once(listener.node, timeout_sec=0.05)


def change_state(listener: Listener) -> None:
    """Take the node through its whole life cycle."""
    for transition in LIFE:
        request = ChangeState.Request()
        request.transition.id = transition
        if not ask(listener.node, ChangeState, 'change_state', request, 60.0).success:
            raise RuntimeError(f'transition {transition} failed')


def state(node: ClassifierProcess) -> tuple[float, int, int]:
    """Return resident MiB, threads and open files of the node."""
    folder = Path(f'/proc/{node.process.pid}')
    return (node.resident() / 2 ** 20, len([*(folder / 'task').iterdir()]),
            len([*(folder / 'fd').iterdir()]))


if __name__ == '__main__':
    sys.exit(main())
