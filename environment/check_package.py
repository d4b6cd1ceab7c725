"""
Build the package with colcon, as a user does, and check that the built nodes start and answer.

Runs on the prepared environment's Python, in a temporary folder; plain and --symlink-install
builds are both checked.
"""

from __future__ import annotations

import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time

ROOT = Path(__file__).resolve().parents[1]
PREFIX = Path(sys.prefix)
# What a clone has beside its code, and is installed: files of these folders.
SHARED = ('config', 'launch')
EXECUTABLES = ['classifier', 'demo', 'describe', 'image_source', 'visualize']
TIMEOUT = 90.0


def main() -> int:
    """Check both kinds of build; returns the process exit status."""
    for flags in ([], ['--symlink-install']):
        with tempfile.TemporaryDirectory() as folder:
            problem = check(Path(folder), flags)
        kind = ' '.join(['colcon build', *flags])
        if problem:
            print(f'{kind}: {problem}', file=sys.stderr)
            return 1
        print(f'{kind}: the package is whole, its nodes start and answer')
    return 0


def check(folder: Path, flags: list[str]) -> str:
    """Build into a folder and try it; returns what is wrong, or an empty string."""
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 100),
                   'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST'}
    # colcon runs setup.py with the Python that runs colcon, so that scripts start with it.
    build = subprocess.run(
        [sys.executable, '-m', 'colcon', '--log-base', str(folder / 'log'), 'build', *flags,
         '--base-paths', str(ROOT), '--build-base', str(folder / 'build'),
         '--install-base', str(folder / 'install')],
        cwd=folder, env=environment, capture_output=True, text=True)
    if build.returncode != 0:
        return f'failed:\n{build.stdout}{build.stderr}'
    installed = folder / 'install' / 'cnn_perception'
    share = installed / 'share' / 'cnn_perception'
    wanted = ['package.xml', *(str(path.relative_to(ROOT)) for name in SHARED
                               for path in (ROOT / name).rglob('*.*')
                               if path.is_file() and path.suffix != '.pyc')]
    if missing := [name for name in wanted if not (share / name).exists()]:
        return f'not installed: {", ".join(missing)}'
    library = installed / 'lib' / 'cnn_perception'
    executables = sorted(path.name for path in library.iterdir())
    if executables != EXECUTABLES:
        return f'executables are {executables}, expected {EXECUTABLES}'
    environment['AMENT_PREFIX_PATH'] = os.pathsep.join(filter(None, [
        str(installed), environment.get('AMENT_PREFIX_PATH') or str(PREFIX)]))
    packages = [*installed.glob('lib/python*/site-packages'), folder / 'build' / 'cnn_perception']
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, [
        *(str(path) for path in packages if path.is_dir()), environment.get('PYTHONPATH', '')]))
    environment['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(share / 'config' / 'fastdds.xml')
    environment['FASTDDS_DEFAULT_PROFILES_FILE'] = str(share / 'config' / 'fastdds.xml')
    return try_nodes(library, folder, environment)


def try_nodes(library: Path, folder: Path, environment: dict[str, str]) -> str:
    """Start the built nodes and wait for each other's work; returns what is wrong."""
    nodes = {
        'classifier': ([], 'efficientnet_lite0 ready in'),
        'image_source': (['-p', 'loops:=1', '-p', 'wait_for_subscribers:=1',
                          '-p', 'exit_when_done:=true'], 'all 1 loop(s) played')}
    running = {}
    try:
        for name, (arguments, expected) in nodes.items():
            log = folder / f'{name}.log'
            with open(log, 'w') as handle:
                running[name] = subprocess.Popen(
                    [str(library / name), '--ros-args', *arguments], cwd=folder, env=environment,
                    stdout=handle, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + TIMEOUT
            while expected not in log.read_text():
                if running[name].poll() is not None or time.monotonic() > deadline:
                    return f'{name} did not say "{expected}":\n{log.read_text()}'
                time.sleep(0.1)
    finally:
        for process in running.values():
            process.send_signal(signal.SIGINT)
        statuses = {name: status_of(process) for name, process in running.items()}
    return '\n'.join(f'{name} ended with status {status}:\n{(folder / f"{name}.log").read_text()}'
                     for name, status in statuses.items() if status != 0)


def status_of(process: subprocess.Popen) -> int:
    """Wait for a process that was told to end; one that does not is aborted, with its stacks."""
    try:
        return process.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        return process.wait()


if __name__ == '__main__':
    sys.exit(main())
