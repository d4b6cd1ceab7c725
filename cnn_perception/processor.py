"""The processor: its name, instructions and cores, and who may use those when."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import math
import os
from pathlib import Path
import platform

import torch

__all__ = ['adds_bytes_in_16_bits', 'has_bfloat16', 'one_torch_thread', 'physical_cores',
           'processor_name']

CPUINFO = Path('/proc/cpuinfo')
CGROUP, CGROUPS = Path('/proc/self/cgroup'), Path('/sys/fs/cgroup')


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
    Count the physical cores that this process may use, at least 1.

    Two threads on the two halves of one core slow a convolution down. More threads than a
    container may run at a time use its share up early, and then all of them wait for the next.
    """
    allowed = os.sched_getaffinity(0)
    cores = set()
    for block in read(CPUINFO).split('\n\n'):
        fields = {key.strip(): value.strip() for key, _, value in
                  (line.partition(':') for line in block.splitlines())}
        if int(fields.get('processor', -1)) in allowed and 'core id' in fields:
            cores.add((fields.get('physical id'), fields['core id']))
    # Arm and some virtual machines do not say which core is which.
    return max(1, math.ceil(min(len(cores) or len(allowed), time_limit())))


def time_limit() -> float:
    """
    Return how many processors' time Linux lets this process have at most, infinity for no limit.

    A container's `--cpus`, a service's CPUQuota: `cpu.max` of control groups, of version 1
    `cpu.cfs_quota_us` and `cpu.cfs_period_us`, in any of the groups that it is in.
    """
    limits = [math.inf]
    for line in read(CGROUP).splitlines():
        controllers, _, path = line.partition(':')[2].partition(':')
        if controllers and 'cpu' not in controllers.split(','):
            continue
        names = ('cpu.cfs_quota_us', 'cpu.cfs_period_us') if controllers else ('cpu.max',)
        # Within a container the names of outer groups may not exist.
        group = CGROUPS / controllers / path.lstrip('/')
        while group != CGROUPS.parent:
            quota, period, *_ = [*' '.join(read(group / name) for name in names).split(), '', '']
            if quota.isdigit() and period.isdigit():  # neither 'max' nor -1
                limits.append(int(quota) / int(period))
            group = group.parent
    return min(limits)


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
    return next((line.partition(':')[2].strip() for line in read(CPUINFO).splitlines()
                 if line.startswith('model name')), platform.processor() or platform.machine())


def features() -> set[str]:
    """Return what the processor can do, in Linux's words; nothing where that cannot be read."""
    return next((set(line.partition(':')[2].split()) for line in read(CPUINFO).splitlines()
                 if line.lower().startswith(('flags', 'features'))), set())


def read(path: Path) -> str:
    """Return what Linux says in a file; nothing where that cannot be read."""
    try:
        return path.read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
