"""Settings that let image-sized messages travel: shared memory that is large enough for them."""

from __future__ import annotations

from collections.abc import Mapping
import os
from pathlib import Path

__all__ = ['image_environment', 'profile_path']

# Fast DDS 2 (Humble, Jazzy) and 3 (Kilted and later) look for their profiles under these names.
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')


def profile_path() -> Path:
    """Return the Fast DDS profile, from the source tree or the installed package."""
    source = Path(__file__).resolve().parents[2] / 'config' / 'fastdds.xml'
    if source.is_file():
        return source
    from ament_index_python.packages import get_package_share_directory
    return Path(get_package_share_directory('cnn_perception')) / 'config' / 'fastdds.xml'


def image_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """
    Return the environment for a process that publishes images.

    A profile that the user has chosen, under either name, is left alone.
    """
    result = dict(os.environ if environment is None else environment)
    if not any(result.get(name) for name in PROFILE_VARIABLES):
        for name in PROFILE_VARIABLES:
            result[name] = str(profile_path())
    return result
