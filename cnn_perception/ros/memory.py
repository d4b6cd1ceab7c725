"""Memory of the process: what its allocator keeps for images, and what it gives back."""

from __future__ import annotations

from contextlib import suppress
import ctypes
import gc
import os

__all__ = ['give_back', 'keep_image_blocks']

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
# The most that glibc accepts: half of a heap of 64 MiB.
LARGEST_BLOCK = 32 * 1024 * 1024
KEPT_MEMORY = 512 * 1024 * 1024
POOLS = 4


def keep_image_blocks() -> bool:
    """
    Keep freed blocks of up to 32 MiB for the next image; returns False where that cannot be set.

    By default every block above 128 KiB comes from the kernel and goes back to it, and each of
    its pages is zeroed and faulted in anew for every image: most of the CPU time that a large
    image costs on its way. The threads share a few pools of them: with one each, a network that
    is loaded anew finds little of the memory that the last one left, and the process grows with
    each; with a single one they wait for each other. What the user has set in the environment is
    left alone.
    """
    if any(name.startswith('MALLOC_') for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # not glibc
    # A threshold that is set, even to its largest value, also stops glibc from moving it.
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
                and mallopt(M_TRIM_THRESHOLD, KEPT_MEMORY) and mallopt(M_ARENA_MAX, POOLS))


def give_back() -> None:
    """
    Free what nobody refers to any more, and return free blocks to the kernel.

    What belongs to a network refers to each other, so that it waits for a full collection, which
    a process of so many objects seldom gets; compiled networks keep threads and weights meanwhile.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
