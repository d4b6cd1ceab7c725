"""Build `environment/vision_msgs` with the ROS 2 generators at hand and install it into a prefix.

Runs on the prepared environment's own Python. The wheels' exported CMake targets name the
Python and NumPy folders of the machine that built them; they are rewritten to this one's.
"""

from __future__ import annotations

import os
from pathlib import Path
import re
import subprocess
import sys
import sysconfig
import tempfile

import numpy

SOURCE = Path(__file__).resolve().parent / 'vision_msgs'
FOREIGN_PYTHON = re.compile(r'/opt/python/[^;"]*?/include/python3\.\d+')
FOREIGN_NUMPY = re.compile(r'/opt/python/[^;"]*?/site-packages/numpy/(?:_core|core)/include')


def main() -> None:
    """Rewrite foreign include folders, then configure, build and install."""
    prefix = Path(sys.argv[1]).resolve()
    rewrite_include_folders(prefix)
    site_packages = Path('lib') / f'python{sysconfig.get_python_version()}' / 'site-packages'
    environment = dict(os.environ)
    environment['CMAKE_PREFIX_PATH'] = os.pathsep.join(filter(None, [
        str(prefix), environment.get('AMENT_PREFIX_PATH', '')]))
    environment['AMENT_PREFIX_PATH'] = environment['CMAKE_PREFIX_PATH']
    environment['PATH'] = os.pathsep.join([str(prefix / 'bin'), environment['PATH']])
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'log'
        for command in (
            ['cmake', '-S', SOURCE, '-B', f'{folder}/build', '-DCMAKE_BUILD_TYPE=Release',
             f'-DCMAKE_INSTALL_PREFIX={prefix}', '-DBUILD_TESTING=OFF',
             f'-DPYTHON_INSTALL_DIR={site_packages}', f'-DPython3_EXECUTABLE={sys.executable}',
             f'-DPYTHON_EXECUTABLE={sys.executable}', '-DPython3_FIND_VIRTUALENV=ONLY',
             f'-DPython3_NumPy_INCLUDE_DIR={numpy.get_include()}'],
            ['cmake', '--build', f'{folder}/build', '--parallel', str(os.cpu_count() or 1)],
            ['cmake', '--install', f'{folder}/build'],
        ):
            with open(log, 'w') as handle:
                status = subprocess.run([str(part) for part in command], env=environment,
                                        stdout=handle, stderr=subprocess.STDOUT).returncode
            if status != 0:
                print('\n'.join(log.read_text().splitlines()[-60:]), file=sys.stderr)
                sys.exit(status)


def rewrite_include_folders(prefix: Path) -> None:
    """Point the wheels' exported targets at this environment's Python and NumPy headers."""
    python_include = sysconfig.get_path('include')
    for path in prefix.glob('share/*/cmake/*.cmake'):
        text = path.read_text()
        changed = FOREIGN_NUMPY.sub(numpy.get_include(), text)
        changed = FOREIGN_PYTHON.sub(python_include, changed)
        if changed != text:
            # A new file, not a changed one: the installer hard-links files to its cache.
            replacement = path.with_suffix('.cmake.new')
            replacement.write_text(changed)
            replacement.replace(path)


if __name__ == '__main__':
    main()
