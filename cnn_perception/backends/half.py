"""
Weights for half precision.

bfloat16 keeps 8 bits of a weight. Rounded one by one, the weights of a small kernel (a depthwise
one above all) change their sum, and with it the brightness of a whole map, which adds up over the
layers. Rounded so that each kernel keeps its sum, the probabilities of EfficientNet-Lite0 on the
photographs differ from float32's by 0.015 instead of 0.023 in OpenVINO, by 0.014 instead of 0.034
in torch.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import copy
import logging
import threading
from typing import Any

import torch
from torch import nn

__all__ = ['half_module', 'round_kernels', 'whole_precision']

LOGGER = logging.getLogger(__name__)


class _WholePrecision:
    """torch's settings, which are the process's, while any thread computes with ours."""

    def __init__(self) -> None:
        """Begin with nobody who computes."""
        self._lock = threading.Lock()
        self._users, self._choosing = 0, 0
        self._told = False
        self._before: dict[str, Any] = {}

    @contextlib.contextmanager
    def __call__(self, *, choose: bool = False) -> Iterator[None]:
        """
        Let a GPU compute float32 in float32: in TF32, torch's default, convolutions keep 10 bits.

        Rounded so, the probabilities of EfficientNet-Lite0 differ by 0.0024. Matrix products are
        in TF32 where an environment variable of NVIDIA's containers says so. choose: try cuDNN's
        algorithms for every new shape and keep the fastest. What was set before is set again when
        the last of all threads leaves. Without a GPU it changes nothing.
        """
        if not torch.cuda.is_available() or not torch.backends.cudnn.is_available():
            yield
            return
        with self._lock:
            if not self._users:
                self._enter()
            self._users, self._choosing = self._users + 1, self._choosing + choose
            torch.backends.cudnn.benchmark = bool(self._choosing)
        try:
            yield
        finally:
            with self._lock:
                self._users, self._choosing = self._users - 1, self._choosing - choose
                torch.backends.cudnn.benchmark = bool(self._choosing)
                if not self._users:
                    self._leave()

    def _enter(self) -> None:
        cudnn = torch.backends.cudnn
        self._before = {name: getattr(cudnn, name) for name in ('benchmark', 'deterministic')}
        cudnn.deterministic = False
        try:
            self._before['allow_tf32'] = cudnn.allow_tf32
            products = torch.get_float32_matmul_precision()
        except RuntimeError as error:
            # Newer settings of torch were used, which exclude these: the process has chosen.
            if not self._told:
                self._told = True
                LOGGER.warning("torch's precision is left as this process has set it: %s", error)
            self._before.pop('allow_tf32', None)
            return
        cudnn.allow_tf32 = False
        if products != 'highest':
            self._before['products'] = products
            torch.set_float32_matmul_precision('highest')

    def _leave(self) -> None:
        if products := self._before.pop('products', ''):
            torch.set_float32_matmul_precision(products)
        for name, value in self._before.items():
            setattr(torch.backends.cudnn, name, value)


whole_precision = _WholePrecision()


def round_kernels(weights: torch.Tensor) -> torch.Tensor:
    """
    Round (..., kh, kw) float32 to values of bfloat16 so that the sum of each kernel stays.

    Returns float32 of the same shape. 1 x 1 kernels are rounded to nearest.
    """
    rows = weights.reshape(-1, weights.shape[-2] * weights.shape[-1])
    if rows.shape[1] == 1:
        return weights.bfloat16().float()
    # Largest first: the error that is left over is that of the smallest weight.
    order = rows.abs().argsort(dim=1, descending=True)
    ordered = rows.gather(1, order)
    error = torch.zeros(len(rows), device=rows.device)
    for index in range(rows.shape[1]):
        wanted = ordered[:, index] + error
        ordered[:, index] = wanted.bfloat16().float()
        error = wanted - ordered[:, index]
    return torch.empty_like(rows).scatter_(1, order, ordered).reshape(weights.shape)


def half_module(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """
    Return a copy of a module that takes and gives float16 or bfloat16.

    The statistics of batch normalisation stay float32, as its kernels want them: their variances
    can be beyond what float16 holds.
    """
    own = copy.deepcopy(module)
    for part in own.modules():
        if dtype == torch.bfloat16 and isinstance(part, nn.Conv2d):
            part.weight.data = round_kernels(part.weight.data.contiguous().float())
    own = own.to(dtype)
    for part, source in zip(own.modules(), module.modules()):
        if isinstance(part, nn.BatchNorm2d):
            for name, values in [*source.named_parameters(recurse=False),
                                 *source.named_buffers(recurse=False)]:
                getattr(part, name).data = values.detach().clone()
    return own
