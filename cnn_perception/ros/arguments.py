"""Command-line arguments that are not ROS's: help, and what a node would pass over in silence."""

from __future__ import annotations

from collections.abc import Sequence
import json
import sys
import textwrap

from cnn_perception.console import write

__all__ = ['answered']

WIDTH = 95
INDENT = ' ' * 6
# What ROS reads outside of its own arguments, too, with a warning.
RENAMES = ('__node', '__name', '__ns')
USAGE = """\
usage: ros2 run cnn_perception {node} [--ros-args [-p NAME:=VALUE ...] [-r FROM:=TO ...]
                                       [--params-file FILE] [--log-level LEVEL]]
"""


def answered(node: str, arguments: Sequence[str]) -> int | None:
    """
    Answer arguments with help or a refusal; returns an exit status, None where a node can start.

    node: `classifier` or `image_source`. arguments: those behind the program's name. ROS's own
    stand between `--ros-args` and `--`, or are remappings; it passes over all others.
    """
    # A launch file's empty argument, and an end of nothing, say nothing.
    others = [argument for argument in outside(arguments) if argument not in ('', '--')]
    if not others:
        return None
    # Only now: it imports rclpy.
    from cnn_perception.ros.parameters import CLASSIFIER, IMAGE_SOURCE
    table = {'classifier': CLASSIFIER, 'image_source': IMAGE_SOURCE}[node]
    if {'-h', '--help'} & {*others}:
        lines = [USAGE.format(node=node)]
        for row in table:
            lines.append(f'  {row.name}:={json.dumps(row.default, ensure_ascii=False)}')
            lines.append(textwrap.fill(row.description, WIDTH, initial_indent=INDENT,
                                       subsequent_indent=INDENT))
        write('\n'.join([*lines, '']))
        return 0
    names = {row.name for row in table}
    for argument in others:
        name, assigned, _ = argument.lstrip('-').partition(':=')
        if not assigned or name in names or (name.startswith('__') and name not in RENAMES):
            print(f"{node}: got '{argument}', expected parameters as in --ros-args -p "
                  f'{next(iter(names & {name}), table[0].name)}:=VALUE; --help lists them',
                  file=sys.stderr)
            return 2
    return None


def outside(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that do not stand between `--ros-args` and `--`."""
    found, inside = [], False
    for argument in arguments:
        if argument == '--ros-args':
            inside = True
        elif inside and argument == '--':
            inside = False
        elif not inside:
            found.append(argument)
    return found
