"""
One tensor operation as it ran, below the modules: its arguments by name, its windows.

Networks come down to a few dozen operations of torch.ops.aten, whatever Python their `forward`
runs; the layer table is made from what these are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
import math
from typing import Any

import torch

from .arithmetic import Window

__all__ = ['Operation', 'aten', 'tensors_in']

aten = torch.ops.aten


@dataclass(frozen=True)
class Operation:
    """One call of an OpOverload of torch.ops.aten and what it returned."""

    kind: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    output: Any

    @property
    def packet(self) -> Any:
        """Return the operation without its overload, as in aten.convolution."""
        return self.kind.overloadpacket

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """All arguments by name, defaults included."""
        arguments = self.kind._schema.arguments
        given = {argument.name: argument.default_value for argument in arguments}
        given.update(zip((argument.name for argument in arguments), self.args))
        given.update(self.kwargs)
        return given

    @cached_property
    def inputs(self) -> list[torch.Tensor]:
        """Every tensor among the arguments, in order."""
        return tensors_in([*self.args, *self.kwargs.values()])

    @property
    def written(self) -> list[torch.Tensor]:
        """Every tensor that the operation writes into."""
        if not self.kind._schema.is_mutable:
            return []
        return tensors_in([self.arguments[argument.name] for argument in
                           self.kind._schema.arguments
                           if argument.alias_info and argument.alias_info.is_write])

    def axes(self, name: str, dimensions: int) -> set[int]:
        """Return the axes an argument names, from the end (-1); all if it names none."""
        value = self.arguments.get(name)
        if value is None or value == []:
            return set(range(-dimensions, 0))
        chosen = value if isinstance(value, (list, tuple)) else [value]
        return {axis - dimensions if axis >= 0 else axis for axis in chosen}

    @property
    def padding(self) -> list[int] | None:
        """Return what padding puts before and after the columns, then the rows, or None."""
        if self.packet is aten.constant_pad_nd:
            return list(self.arguments['pad'])
        if self.packet in (aten.reflection_pad2d, aten.replication_pad2d):
            return list(self.arguments['padding'])
        return None

    @property
    def windows(self) -> tuple[Window, Window] | None:
        """Windows along rows and columns of a 2-D convolution or pooling, else None."""
        given = self.arguments
        if self.packet is aten.convolution and (
                given['transposed'] or given['weight'].dim() != 4):
            return None
        return self.kernels

    @property
    def kernels(self) -> tuple[Window, Window] | None:
        """
        Return what `windows` does, and the kernels of other convolutions too.

        Those of transposed ones slide along the output; 1-D ones are one row high.
        """
        given = self.arguments
        if self.packet is aten.convolution:
            kernel = given['weight'].shape[2:]
            if len(kernel) > 2:
                return None
        elif self.packet in (aten.max_pool2d_with_indices, aten.avg_pool2d):
            kernel = given['kernel_size']
        else:
            return None

        def along(axis: int) -> Window:
            lists = (kernel, given['stride'] or kernel, given['padding'],
                     given.get('dilation', [1]))
            size, stride, padding, dilation = (
                int(values[min(axis, len(values) - 1)]) for values in lists)
            return Window(size, stride, padding, padding, dilation,
                          bool(given.get('ceil_mode', False)))
        flat = self.packet is aten.convolution and len(kernel) == 1
        return Window(1) if flat else along(0), along(1)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of a convolution or matrix product; 0 for what has none, biases too."""
        # Where torch has Triton this loads it: a twelfth of the time to a node's first answer.
        from torch.utils.flop_counter import flop_registry
        count = flop_registry.get(self.packet)
        if count is not None:
            # PyTorch counts a multiplication and an addition as two.
            return int(count(*self.args, **self.kwargs, out_val=self.output)) // 2
        own = PRODUCTS.get(self.packet)
        return own(*self.args) if own is not None else 0


def _trilinear(first: torch.Tensor, weight: torch.Tensor, second: torch.Tensor,
               *axes: Sequence[int]) -> int:
    """Count the products of `nn.Bilinear`, each with a third factor, over all axes together."""
    shapes = []
    for tensor, expanded in zip((first, weight, second), axes):
        for axis in expanded:
            tensor = tensor.unsqueeze(axis)
        shapes.append(tensor.shape)
    return math.prod(torch.broadcast_shapes(*shapes))


# Multiply-adds of products that PyTorch's table leaves out.
PRODUCTS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda matrix, vector: matrix.numel(),
    aten.addmv: lambda bias, matrix, vector: matrix.numel(),
    aten.dot: lambda first, second: first.numel(),
    aten.addbmm: lambda bias, first, second: first.numel() * second.shape[-1],
    aten._trilinear: lambda *given: _trilinear(*given[:6])}


def tensors_in(values: Sequence[Any]) -> list[torch.Tensor]:
    """Return every tensor in a list of arguments or outputs, lists within it included."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found
