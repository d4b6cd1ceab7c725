"""Cores: how many there are, and who may use them when."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import platform

import torch

__all__ = ['adds_bytes_in_16_bits', 'has_bfloat16', 'one_torch_thread', 'physical_cores',
           'processor_name']

CPUINFO = Path('/proc/cpuinfo')


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """
    Let torch compute in the calling thread alone.

    After a parallel operation torch's other threads go on spinning for milliseconds, on the cores
    where another engine wants to begin: 0.4 ms of preprocessing then made OpenVINO's 3.1 ms take
    6.1 ms. Where other processes keep the cores busy, waiting for a thread that does not get one
    makes a forward pass take seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def physical_cores() -> int:
    """
    Count the physical cores that this process may run on, at least 1.

    Two threads on the two halves of one core slow a convolution down.
    """
    allowed = os.sched_getaffinity(0)
    cores = set()
    for block in cpuinfo().split('\n\n'):
        fields = {key.strip(): value.strip() for key, _, value in
                  (line.partition(':') for line in block.splitlines())}
        if int(fields.get('processor', -1)) in allowed and 'core id' in fields:
            cores.add((fields.get('physical id'), fields['core id']))
    # Arm and some virtual machines do not say which core is which.
    return len(cores) or max(1, len(allowed))


def adds_bytes_in_16_bits() -> bool:
    """
    Tell whether products of 8-bit numbers are added up in 16 bits here, where they may not fit.

    x86 processors before the VNNI instructions (Intel's architecture manual, VPMADDUBSW and
    VPDPBUSD) add each two products so and cut off what is too large. Others have 32 bits.
    """
    if platform.machine().lower() not in ('x86_64', 'amd64', 'i386', 'i686'):
        return False
    return not any('vnni' in feature for feature in features())


def has_bfloat16() -> bool:
    """Tell whether this processor multiplies matrices of bfloat16 (AVX-512 BF16, AMX, Arm)."""
    return not features().isdisjoint(('avx512_bf16', 'amx_bf16', 'bf16'))


def processor_name() -> str:
    """Return what the processor calls itself, else the kind of machine."""
    return next((line.partition(':')[2].strip() for line in cpuinfo().splitlines()
                 if line.startswith('model name')), platform.processor() or platform.machine())


def features() -> set[str]:
    """Return what the processor can do, in Linux's words; nothing where that cannot be read."""
    return next((set(line.partition(':')[2].split()) for line in cpuinfo().splitlines()
                 if line.lower().startswith(('flags', 'features'))), set())


def cpuinfo() -> str:
    """Return what Linux says of the processors; nothing where that cannot be read."""
    try:
        return CPUINFO.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
