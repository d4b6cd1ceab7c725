"""Where a network runs and in what numbers: the one place where `auto` becomes either."""

from __future__ import annotations

from pathlib import Path
import re

from cnn_perception.processor import has_bfloat16
import torch

__all__ = ['has_gpu', 'ran_out', 'resolve_device', 'resolve_precision']

# How torch, cuBLAS and cuDNN report that a GPU's memory does not suffice.
FULL = re.compile('out of memory|ALLOC_FAILED|NOT_INITIALIZED')
# The first GPUs with matrix units for float16 (Volta).
MATRIX_UNITS = (7, 0)
FIRST = torch.device('cuda', 0)
# What NVIDIA's drivers make for a GPU: of a card, which in a container may be any, and of a
# Jetson's own.
DEVICES = Path('/dev')
GPU_FILES = ('nvidia[0-9]*', 'nvhost-gpu')


def resolve_device(name: str) -> tuple[torch.device, str]:
    """
    Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device and a sentence that says why.

    `auto` takes the first GPU and falls back to the CPU where there is none that computes. An
    explicit GPU that is not there, or does not compute, raises ValueError: a robot that was
    promised a GPU must not run slowly in silence.
    """
    if name == 'cpu':
        return torch.device('cpu'), 'cpu, as asked'
    if name == 'auto':
        if not torch.cuda.is_available():
            reason = f'torch cannot use the GPU: {trouble(FIRST)}' if has_gpu() else (
                'no CUDA device is available')
            return torch.device('cpu'), f'cpu, because {reason}'
        if problem := trouble(FIRST):
            return torch.device('cpu'), f'cpu, because cuda:0 does not compute: {problem}'
        return FIRST, f'cuda:0 ({torch.cuda.get_device_name(0)})'
    match = re.fullmatch(r'cuda(?::(\d+))?', name)
    if match is None:
        raise ValueError(f"device is '{name}', expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    index = int(match.group(1) or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        reason = f'torch {torch.__version__} sees {count} CUDA device(s)'
        reason += f' ({trouble(FIRST)})' if count == 0 and has_gpu() else ''
        raise ValueError(f"device is '{name}' but {reason}; check nvidia-smi and the torch build, "
                         "or use device 'auto' or 'cpu'")
    device = torch.device('cuda', index)
    if problem := trouble(device):
        raise ValueError(f"device is '{name}' but it does not compute: {problem}; check with "
                         'nvidia-smi what else uses it, and that this torch is built for it, or '
                         "use device 'auto' or 'cpu'")
    return device, f'{name} ({torch.cuda.get_device_name(index)})'


def resolve_precision(name: str, device: torch.device) -> str:
    """
    Turn `auto` into the precision worth trying on a device: what it computes fastest.

    float16 on a GPU with matrix units, bfloat16 on a CPU that has it, else float32. Any other name
    is returned as it is.
    """
    if name != 'auto':
        return name
    if device.type == 'cuda':
        fast = torch.cuda.get_device_capability(device) >= MATRIX_UNITS
        return 'float16' if fast else 'float32'
    return 'bfloat16' if has_bfloat16() else 'float32'


def has_gpu() -> bool:
    """Tell whether an NVIDIA driver offers a GPU, which torch may be unable to use."""
    return any(any(DEVICES.glob(pattern)) for pattern in GPU_FILES)


def ran_out(report: str) -> bool:
    """Tell whether what went wrong on a GPU is that its memory did not suffice."""
    return bool(FULL.search(report))


def trouble(device: torch.device) -> str:
    """Compute something; '' where it works: a GPU can be full, or older or newer than torch."""
    try:
        return '' if int(torch.ones(8, device=device).sum()) == 8 else 'its sums are wrong'
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch built without CUDA
        return str(error).strip().partition('\n')[0]
