"""
Where the processes of the nodes begin: an interrupt ends them at once, until they can notice it.

Importing torch takes seconds, in which it catches whatever is raised: a Ctrl-C then was lost, or
left half a library behind. It makes 400 000 objects that stay. Looking through them for garbage
takes a tenth of the start, and each time later a quarter of a second in which nothing is answered.
What a node hardly needs of torch is put off; a torch that cannot be imported so is imported whole.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from types import ModuleType

__all__ = ['classifier', 'image_source', 'main']

WHOLE = 'CNN_PERCEPTION_IMPORT_WHOLE'
"""An environment variable: set, nothing is put off."""


def classifier() -> int:
    """Run the classifier; returns the process's exit status."""
    return start('cnn_perception.ros.classifier_node')


def image_source() -> int:
    """Run the image source; returns the process's exit status."""
    return start('cnn_perception.ros.image_source_node')


def start(module: str) -> int:
    """Import a node's module, to whose `main` interrupts are left from then on."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Not at the top: what these import takes time as well, and an interrupt in it was reported.
    from cnn_perception.collector import without_collector
    from cnn_perception.console import give_outputs
    from cnn_perception.ros.arguments import answered
    give_outputs()
    name = module.rpartition('.')[2].removesuffix('_node')
    if (status := answered(name, sys.argv[1:])) is not None:
        return status
    try:
        with without_collector():
            node = imported(module)
            gc.freeze()
    except ModuleNotFoundError as error:
        if not absent(error):
            raise
        print(f'{name}: {sys.executable}, with which this node was built, has no {error.name}. '
              'rosdep and pip install what is missing, as the README says; where it is in a '
              'virtual environment, activate that and build with python3 -m colcon build',
              file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, before)
    return node.main()


def absent(error: Exception) -> bool:
    """Tell whether a whole package is missing, and not a part of one."""
    return isinstance(error, ModuleNotFoundError) and '.' not in (error.name or '.')


def imported(module: str) -> ModuleType:
    """Import a module and all that it needs, where that fails once more in a fresh process."""
    if WHOLE in os.environ:
        return importlib.import_module(module)
    from cnn_perception.later import put_off
    put_off()
    try:
        return importlib.import_module(module)
    except Exception as error:  # whatever another version of torch makes of what is put off
        # A program that came through a pipe, or within another one, cannot be begun once more.
        if absent(error) or not sys.executable or not {*sys.orig_argv[1:]} - {'-'}:
            raise
        print(f'imported once more, whole, after {type(error).__name__}: {error}',
              file=sys.stderr, flush=True)
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]],
                  {**os.environ, WHOLE: '1'})


def main() -> int:
    """Run the node that the first argument names."""
    nodes = {'classifier': classifier, 'image_source': image_source}
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ''
    if name not in nodes:
        print(f"start: got '{name}', expected {' or '.join(nodes)}", file=sys.stderr)
        return 2
    return nodes[name]()


if __name__ == '__main__':
    sys.exit(main())
