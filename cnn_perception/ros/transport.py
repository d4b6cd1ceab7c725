"""Settings that let image-sized messages travel, of each middleware that has its own."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
import os
from pathlib import Path
import shutil
import sys

__all__ = ['fast_dds_profile', 'image_environment', 'little_memory', 'other_users', 'profile_path',
           'profile_variables']

# Where Fast DDS 2 (Humble, Jazzy) and 3 (Kilted and later) look for their profile, and what they
# are called as packages. The third takes the name of the second too, and warns of it.
PROFILE_VARIABLES = {'FASTRTPS_DEFAULT_PROFILES_FILE': 'fastrtps',
                     'FASTDDS_DEFAULT_PROFILES_FILE': 'fastdds'}
CYCLONE_VARIABLE = 'CYCLONEDDS_URI'
LARGE, SMALL = 'fastdds.xml', 'fastdds_small.xml'
SHARED_MEMORY = '/dev/shm'
# What camera, classifier and two viewers take of it with the large profile; a container has less.
ENOUGH = 4 * 68 * 10 ** 6


def fast_dds_profile() -> str:
    """Return the name of the profile, of those in config/, that shared memory has room for."""
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:  # another system, with another kind of shared memory
        return LARGE
    return LARGE if free >= ENOUGH else SMALL


def little_memory(environment: Mapping[str, str]) -> str:
    """Say what that means, where `image_environment` has given the small profile; else ''."""
    if (not environment.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp').startswith('rmw_fastrtps')
            or str(profile_path(SMALL)) not in map(environment.get, PROFILE_VARIABLES)):
        return ''
    return (f'there is little room in {SHARED_MEMORY}: of images larger than 2560 x 1440 Fast DDS '
            'loses some (a container has more room with docker run --shm-size=1g)')


def other_users() -> str:
    """
    Name the users other than this process's whose Fast DDS has shared memory here, '' for none.

    What one user's process writes there no other user's can open to read and release it.
    """
    owners = set()
    for file in Path(SHARED_MEMORY).glob('fast*'):
        with suppress(OSError):  # gone meanwhile
            if (number := file.stat().st_uid) == os.getuid():
                continue
            try:
                owners.add(file.owner())
            except KeyError:  # a number without a name, as in a container
                owners.add(f'user {number}')
    return ' or '.join(sorted(owners))


def profile_path(name: str = LARGE) -> Path:
    """Return a file of config/, from the source tree or the installed package."""
    source = Path(__file__).resolve().parents[2] / 'config' / name
    if source.is_file():
        return source
    from ament_index_python.packages import get_package_share_directory
    return Path(get_package_share_directory('cnn_perception')) / 'config' / name


def profile_variables(environment: Mapping[str, str]) -> list[str]:
    """Return where the Fast DDS of this environment looks for its profile; all where none is."""
    prefixes = [*filter(None, environment.get('AMENT_PREFIX_PATH', '').split(os.pathsep)),
                sys.prefix]
    return [variable for variable, package in PROFILE_VARIABLES.items()
            if any((Path(prefix) / 'share' / package).is_dir() for prefix in prefixes)
            ] or [*PROFILE_VARIABLES]


def image_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment for a process that publishes images.

    What the user has chosen, of Fast DDS under either name, is left alone.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in PROFILE_VARIABLES):
        for name in profile_variables(result):
            result[name] = str(profile_path(fast_dds_profile()))
    if not result.get(CYCLONE_VARIABLE):
        result[CYCLONE_VARIABLE] = f'file://{profile_path("cyclonedds.xml")}'
    return result
