"""
What the launch files share.

Only launch files import this module: the nodes run without `launch` and `launch_ros`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
import functools
import os
from pathlib import Path
from typing import Any

from ament_index_python.packages import (
    get_package_prefix, get_package_share_directory, PackageNotFoundError)
from cnn_perception.ros.parameters import Parameter
from cnn_perception.ros.transport import image_environment, little_memory
from launch import LaunchContext
from launch.actions import DeclareLaunchArgument
from launch.logging import get_logger
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

__all__ = ['CONFIG', 'argument', 'common_arguments', 'flag', 'given', 'node',
           'parameter_arguments', 'parameters_file', 'require', 'resolved', 'SWITCH', 'transport',
           'value']

PACKAGE = 'cnn_perception'
CONFIG = Path(get_package_share_directory(PACKAGE)) / 'config'
SWITCH = ('true', 'false')
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
RESPAWN_DELAY = 2.0


# declaring


def argument(name: str, default: str, description: str,
             choices: Iterable[str] = ()) -> DeclareLaunchArgument:
    """Declare a launch argument; its description is not optional."""
    options = list(choices)
    return DeclareLaunchArgument(name, default_value=default, description=description,
                                 choices=options or None)


def common_arguments() -> list[DeclareLaunchArgument]:
    """Declare what every process that is launched takes."""
    return [
        argument('namespace', '', 'Namespace of all nodes and of their relative topics.'),
        argument('log_level', 'info', 'Least severe messages that the nodes log.', LOG_LEVELS),
        argument('respawn', 'false', f'Start a node again {RESPAWN_DELAY:g} s after it ended.',
                 SWITCH),
    ]


def parameter_arguments(table: Iterable[Parameter], names: Sequence[str],
                        file_argument: str) -> list[DeclareLaunchArgument]:
    """
    Declare arguments for parameters of a node, described as in the table.

    The default is empty and sets nothing: an argument that nobody gave would otherwise replace
    what the params file says.
    """
    rows = {row.name: row for row in table}
    arguments = []
    for name in names:
        row = rows[name]
        choices = SWITCH if isinstance(row.default, bool) else row.choices
        default = str(row.default).lower() if isinstance(row.default, bool) else row.default
        otherwise = f', else {default}' if default != '' else ''
        arguments.append(argument(
            name, '', f'{row.description} Empty: as {file_argument} says{otherwise}.',
            ('', *choices) if choices else ()))
    return arguments


# reading


def value(context: LaunchContext, name: str) -> str:
    """Return what an argument was given, without surrounding blanks."""
    return LaunchConfiguration(name).perform(context).strip()


def flag(context: LaunchContext, name: str) -> bool:
    """Return an argument declared with SWITCH."""
    return value(context, name) == 'true'


def given(context: LaunchContext, table: Iterable[Parameter],
          names: Iterable[str]) -> dict[str, Any]:
    """Return those parameters whose arguments are not empty, in the types of the table."""
    rows = {row.name: row for row in table}
    texts = {name: value(context, name) for name in names}
    return {name: converted(rows[name], text) for name, text in texts.items() if text}


def converted(row: Parameter, text: str) -> Any:
    """Convert the text of an argument to the type of its parameter."""
    kind = type(row.default)
    if kind is bool:
        return text == 'true'
    try:
        return kind(text)
    except ValueError:
        noun = {int: 'a whole number', float: 'a number'}[kind]
        raise RuntimeError(f"argument {row.name} is '{text}', expected {noun}") from None


def parameters_file(context: LaunchContext, name: str) -> list[str]:
    """
    Return the params file that an argument names, or nothing where it is empty.

    A bare file name that does not exist here is looked for among those of the package.
    """
    text = value(context, name)
    if not text:
        return []
    path = Path(text).expanduser()
    if not path.is_file() and path.name == text:
        path = CONFIG / text
    if not path.is_file():
        own = ', '.join(sorted(entry.name for entry in CONFIG.glob('*.yaml')))
        raise RuntimeError(f"argument {name}: '{text}' is not a file; a path is expected, or one "
                           f'of this package: {own}')
    return [str(path)]


def resolved(context: LaunchContext, topic: str) -> str:
    """Return the absolute name of a topic that is relative to the argument `namespace`."""
    parts = [] if topic.startswith('/') else value(context, 'namespace').split('/')
    return '/' + '/'.join(part for part in (*parts, *topic.split('/')) if part)


# starting


def require(package: str, purpose: str) -> None:
    """Say what to install where a package is missing."""
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        distribution = os.environ.get('ROS_DISTRO') or '$ROS_DISTRO'
        raise RuntimeError(
            f'{purpose} needs the package {package}, which is not installed: apt install '
            f'ros-{distribution}-{package.replace("_", "-")}') from None


def node(context: LaunchContext, package: str, executable: str, name: str,
         parameters: Iterable[str | Mapping[str, Any]] = (),
         remappings: Iterable[tuple[str, str]] = ()) -> Node:
    """Describe a process that publishes images, with the common arguments applied."""
    return Node(
        package=package, executable=executable, name=name, namespace=value(context, 'namespace'),
        parameters=[entry if isinstance(entry, str) else typed(entry) for entry in parameters
                    if entry],
        remappings=list(remappings),
        ros_arguments=['--log-level', value(context, 'log_level')],
        additional_env=transport(context), output='screen', emulate_tty=True,
        respawn=flag(context, 'respawn'), respawn_delay=RESPAWN_DELAY)


def transport(context: LaunchContext) -> dict[str, str]:
    """Return what a process that sends or receives images needs added to its environment."""
    before = context.environment
    after = image_environment(before)
    if text := little_memory(after):
        tell(text)
    return {variable: setting for variable, setting in after.items()
            if before.get(variable) != setting}


@functools.cache
def tell(text: str) -> None:
    """Write a line to the launcher's log, once."""
    get_logger('launch.user').info(text)


def typed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Mark strings as such: launch_ros reads a bare '0' or 'true' as a number or a truth value."""
    return {name: ParameterValue(entry, value_type=str) if isinstance(entry, str) else entry
            for name, entry in parameters.items()}
