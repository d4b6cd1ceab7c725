"""Settings that let image-sized messages travel, of each middleware that has its own."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path

__all__ = ['image_environment', 'profile_path']

# Fast DDS 2 (Humble, Jazzy) and 3 (Kilted and later) look for their profiles under these names.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
CYCLONE_VARIABLE = 'CYCLONEDDS_URI'


def profile_path(name: str = 'fastdds.xml') -> Path:
    """Return a file of config/, from the source tree or the installed package."""
    source = Path(__file__).resolve().parents[2] / 'config' / name
    if source.is_file():
        return source
    from ament_index_python.packages import get_package_share_directory
    return Path(get_package_share_directory('cnn_perception')) / 'config' / name


def image_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment for a process that publishes images.

    What the user has chosen, of Fast DDS under either name, is left alone.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in PROFILE_VARIABLES):
        for name in PROFILE_VARIABLES:
            result[name] = str(profile_path())
    if not result.get(CYCLONE_VARIABLE):
        result[CYCLONE_VARIABLE] = f'file://{profile_path("cyclonedds.xml")}'
    return result
