"""
Networks on the meta device: all of their structure, none of their numbers.

A meta tensor has a shape and no memory, so that a network of a billion parameters is built in
milliseconds and run without arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
import copy
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from .errors import ArchitectureError

__all__ = ['constants_to_meta', 'on_meta', 'skeleton']


class _ParametersOnMeta(TorchFunctionMode):
    """Creates what parameters and buffers are made from on the meta device, and nothing else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.empty, torch.zeros, torch.ones) and kwargs.get('device') is None:
            kwargs['device'] = 'meta'
        return func(*args, **kwargs)


def skeleton(build: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """
    Return build(*args, **kwargs), a module, on the meta device: in milliseconds, without memory.

    Constructors that compute with tensors (RegNet's widths) still get real ones to compute with.
    """
    try:
        with torch.device('meta'):
            return build(*args, **kwargs)
    except RuntimeError:
        with _ParametersOnMeta():
            return build(*args, **kwargs)


def on_meta(module: nn.Module) -> nn.Module:
    """
    Return a copy of a module on the meta device, in eval mode; the original is not touched.

    Raises ArchitectureError for lazy layers that have not seen an input, as they have no sizes.
    """
    for name, part in module.named_modules():
        if any(map(is_lazy, (*part.parameters(recurse=False), *part.buffers(recurse=False)))):
            raise ArchitectureError(
                f'{name or "the module"} ({type(part).__name__}) has no sizes yet: run the '
                'network once on an input of its shape, then describe it')
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(_empty(parameter), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = _empty(buffer)
    return copy.deepcopy(module, memo).eval()


def constants_to_meta(module: nn.Module) -> None:
    """Empty the tensors that a copy's modules have as plain attributes, not as buffers."""
    for part in module.modules():
        vars(part).update({name: _empty(value) for name, value in vars(part).items()
                           if isinstance(value, torch.Tensor)})


def _empty(tensor: torch.Tensor) -> torch.Tensor:
    kind = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return torch.empty_like(tensor, dtype=kind, device='meta')
