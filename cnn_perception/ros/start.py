"""
Where the processes of the nodes begin: an interrupt ends them at once, until they can notice it.

Importing torch takes a second, in which it catches whatever is raised: a Ctrl-C then was lost, or
left half a library behind. It makes 400 000 objects that stay. Looking through them for garbage
takes a tenth of the start, and each time later a quarter of a second in which nothing is answered.
"""

from __future__ import annotations

import gc
import importlib
import signal
import sys

from cnn_perception.collector import without_collector

__all__ = ['classifier', 'image_source', 'main']


def classifier() -> int:
    """Run the classifier; returns the process's exit status."""
    return start('cnn_perception.ros.classifier_node')


def image_source() -> int:
    """Run the image source; returns the process's exit status."""
    return start('cnn_perception.ros.image_source_node')


def start(module: str) -> int:
    """Import a node's module, to whose `main` interrupts are left from then on."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with without_collector():
        node = importlib.import_module(module)
        gc.freeze()
    signal.signal(signal.SIGINT, before)
    return node.main()


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
