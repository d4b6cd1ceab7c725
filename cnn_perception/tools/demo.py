"""
Classify photographs, a folder, a video or a camera over ROS 2, and show what comes out.

Starts an image source and a classifier as two processes, as on a robot, listens to what they
publish, and writes the overlays and a contact sheet of them as PNG files.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from cnn_perception.console import raise_interrupts
from cnn_perception.ros.spinning import cause
from cnn_perception.ros.transport import image_environment, little_memory
from cnn_perception.sources import open_source
from cnn_perception.tools.demo_listener import Listener
from cnn_perception.tools.folders import check_folder, make_folder
from rclpy.executors import ExternalShutdownException

__all__ = ['main']

NAMESPACE = '/demo'
START_TIMEOUT = 120.0
# Seconds in which the last answers arrive after the source has ended.
LINGER = 1.0
# What the source says of a picture that it cannot read.
PASSED_OVER = 'passed over: '
# What a shell reports of a program that Ctrl-C ended.
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 where every process started and frames were answered, else 1 or 130."""
    options = parse(arguments)
    folder = Path(options.out)
    try:
        check_folder(folder)
        if not options.camera:
            # What cannot be opened is told before the classifier is waited for.
            open_source(options.source).close()
        make_folder(folder)
    except (OSError, ValueError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    isolate()
    print(f'ROS 2 {os.environ.get("ROS_DISTRO") or "from wheels"}, '
          f'ROS_DOMAIN_ID={os.environ["ROS_DOMAIN_ID"]}; starting the classifier ...', flush=True)
    if text := little_memory(image_environment()):
        print(text, flush=True)
    try:
        listener = Listener(NAMESPACE, folder, steady=options.steady)
    except RuntimeError as error:
        if 'context is invalid' in str(error):
            return INTERRUPTED  # rclpy's own handler has taken it away
        print(f'demo: {cause(error)}', file=sys.stderr)
        return 1
    processes: list[tuple[str, subprocess.Popen]] = []
    interrupted = False
    # Not before: imports, in which an interrupt would be reported, go on until here.
    raise_interrupts()
    try:
        classifier = start('classifier', classifier_parameters(options), folder, processes)
        if not listener.wait_for_answers(lambda: classifier.poll() is None, START_TIMEOUT):
            return failed('classifier', folder)
        source = start('image_source', source_parameters(options), folder, processes)
        listener.header()
        while source.poll() is None:
            listener.spin(0.1)
            if classifier.poll() is not None:
                return failed('classifier', folder)
        listener.spin(LINGER)
        if source.returncode != 0:
            return failed('image_source', folder)
    except (KeyboardInterrupt, ExternalShutdownException):
        interrupted = True
        print()
    finally:
        stop(processes)
        listener.close()
    answered = listener.summary()
    if interrupted and not answered:
        print('ended before the first answer', file=sys.stderr)
        return INTERRUPTED
    if not answered:
        return failed('classifier', folder)
    for line in (folder / 'image_source.log').read_text(errors='replace').splitlines():
        if PASSED_OVER in line:
            print(line[line.index(PASSED_OVER):], file=sys.stderr)
    print(f'\noverlays: {folder}/*.png, all on one sheet: {folder}/contact_sheet.png')
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog='demo', description='Classify pictures over ROS 2 and show what comes out.')
    what = parser.add_mutually_exclusive_group()
    what.add_argument('--images', metavar='FOLDER', help='pictures of a folder (or one picture)')
    what.add_argument('--video', metavar='FILE', help='a video file')
    what.add_argument('--camera', metavar='NUMBER', help='a camera: 0, 1, ... or /dev/video0')
    parser.add_argument('--architecture', default='efficientnet_lite0', help='network by name')
    parser.add_argument('--weights', default='default', help='default, a name or a file')
    parser.add_argument('--labels', default='', metavar='FILE',
                        help='class names of weights of your own: .txt, .json or .yaml')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    parser.add_argument('--rate', type=float, help='frames a second')
    parser.add_argument('--loops', type=int, help='passes over the pictures; 0 until Ctrl-C')
    parser.add_argument('--out', default='demo_output', metavar='FOLDER',
                        help='where the PNG files and logs go (default: demo_output)')
    options = parser.parse_args(arguments)
    options.steady = bool(options.video or options.camera)
    options.source = options.images or options.video or options.camera or 'photographs'
    if options.rate is None:
        options.rate = 30.0 if options.steady else 5.0
    if options.rate < 0.0 or (options.loops or 0) < 0:
        parser.error('--rate and --loops cannot be negative')
    if options.loops is None:
        options.loops = 0 if options.camera else 1 if options.video else 4
    return options


def isolate() -> None:
    """Keep the demo to this machine, and to itself where no domain is chosen."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))


def classifier_parameters(options: argparse.Namespace) -> dict[str, object]:
    """Return the parameters of the classifier that differ from their defaults."""
    return {'architecture': options.architecture, 'weights': options.weights,
            'device': options.device, 'labels': options.labels}


def source_parameters(options: argparse.Namespace) -> dict[str, object]:
    """Return the parameters of the image source that differ from their defaults."""
    return {'source': options.source, 'rate': options.rate, 'loops': options.loops,
            'frame_id_is_name': True, 'wait_for_subscribers': 1, 'exit_when_done': True}


def start(name: str, parameters: dict[str, object], folder: Path,
          processes: list[tuple[str, subprocess.Popen]]) -> subprocess.Popen:
    """Start one of the package's nodes in a process of its own, logging to a file."""
    command = [sys.executable, '-m', 'cnn_perception.ros.start', name, '--ros-args',
               '-r', f'__ns:={NAMESPACE}']
    for key, value in parameters.items():
        # As JSON, which is YAML too: a camera's number stays a text, and quotes stay quotes.
        command += ['-p', f'{key}:={json.dumps(value, ensure_ascii=False)}']
    with open(folder / f'{name}.log', 'w') as log:
        # A session of its own, so that Ctrl-C reaches this process first and each node once.
        process = subprocess.Popen(command, env=image_environment(), stdout=log,
                                   stderr=subprocess.STDOUT, start_new_session=True)
    processes.append((name, process))
    return process


def stop(processes: list[tuple[str, subprocess.Popen]]) -> None:
    """End the processes as Ctrl-C would, and by force where that does not help."""
    for _, process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + 10.0
    for name, process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            print(f'{name} did not end within 10 s and was killed', file=sys.stderr)
            process.kill()
            process.wait()


def failed(name: str, folder: Path) -> int:
    """Show why a node failed: the end of its log."""
    log = (folder / f'{name}.log').read_text(errors='replace').splitlines()
    print(f'\n{name} failed; the end of {folder / f"{name}.log"}:', file=sys.stderr)
    print('\n'.join(log[-12:]), file=sys.stderr)
    return 1


if __name__ == '__main__':
    sys.exit(main())
