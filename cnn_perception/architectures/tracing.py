"""
One forward pass of a network on the meta device, observed: shapes and costs without any memory.

Every operation is charged to the module that runs it, so that whatever a `forward` does outside
its layers is counted too; the layers are recorded in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
import math
from typing import Any

from cnn_perception.later import load, META
from cnn_perception.quick_imports import without_compiler_for_meta
from cnn_perception.turns import TRACING
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .arithmetic import Window
from .errors import ArchitectureError, shape_text
from .field_memory import FieldMemory
from .field_rules import field_after
from .fields import MapField
from .operations import Operation, tensors_in
from .refusal import refusal

__all__ = ['Call', 'trace']

# Layers of one input and output whose operations reshape on the way, though they mix only their
# last axis, or only channels.
_LAST_AXIS = (nn.Linear,)
_CHANNELS = (nn.LocalResponseNorm,)


@dataclass
class Call:
    """
    One run of one module.

    name is the module's path ('' for the network), with _1, _2 behind it from the second run on;
    numbers whose name another module has are skipped. output_shape leaves the batch out.
    parameters are those of the module itself and of parts of it that are used without being run,
    multiply_adds what it does outside the parts it runs. windows are the kernels of its last
    convolution or pooling, fits whether all 2-D ones tile their input, None without any. runs is
    False for a part with parameters that this pass never touches.
    """

    name: str
    kind: str
    parts: list[Call] = field(default_factory=list)
    output_shape: tuple[int, ...] = ()
    parameters: int = 0
    multiply_adds: int = 0
    windows: tuple[Window, Window] | None = None
    fits: bool | None = None
    sees: MapField | None = None
    allocates: bool = True
    runs: bool = True

    @property
    def size(self) -> int:
        """Numbers in the output, 0 if it never runs."""
        return math.prod(self.output_shape) if self.runs else 0


class _Observer(TorchDispatchMode):
    """Charges operations to the innermost module that runs, and follows the receptive fields."""

    def __init__(self, module: nn.Module, image: torch.Tensor) -> None:
        super().__init__()
        self.names = {part: name for name, part in module.named_modules()}
        self.taken = set(self.names.values())
        self.runs: dict[nn.Module, int] = {}
        self.stack: list[Call] = []
        self.root: Call | None = None
        self.size = (image.shape[-2], image.shape[-1])
        self.fields = FieldMemory()
        self.fields.put(image, MapField())
        self.used: set[int] = set()
        self.pad: tuple[Call | None, Sequence[int]] = (None, ())
        self.entered: tuple[Call, nn.Module, list[torch.Tensor]] | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Only a compiler would have to, and telling it so loads it: seconds, for a tenth of one.
        return False

    def __torch_dispatch__(self, kind: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = kind(*args, **kwargs)
        operation = Operation(kind, args, kwargs, output)
        self.used.update(id(tensor) for tensor in operation.inputs)
        if self.stack:
            call = self.stack[-1]
            call.multiply_adds += operation.multiply_adds
            self._slide(call, operation)
        fields = [self.fields.get(tensor) for tensor in operation.inputs]
        if any(seen is not None for seen in fields):
            after = field_after(operation, fields, self.size)
            written = operation.written
            for tensor in written:
                self.fields.write(tensor, after)
            for tensor in tensors_in([output]):
                if not any(tensor is one for one in written):
                    self.fields.put(tensor, after)
        return output

    def _slide(self, call: Call, operation: Operation) -> None:
        padding, windows = operation.padding, operation.kernels
        if padding is not None:
            self.pad = (call, padding)
        if windows is None:
            return
        if operation.windows is not None:
            sizes = operation.inputs[0].shape[-2:]
            fits = all(window.fits(size) for window, size in zip(windows, sizes))
            call.fits = fits and call.fits is not False
        call.windows = windows
        padded, pad = self.pad
        if padded is call and len(pad) == 4:
            # Uneven padding, as TensorFlow's, and reflected or wrapped-around borders are made by
            # operations of their own before the convolution.
            rows, columns = windows
            call.windows = (_padded(rows, pad[2:]), _padded(columns, pad[:2]))
        self.pad = (None, ())

    def enter(self, module: nn.Module, args: Any) -> None:
        count = self.runs.get(module, 0)
        self.runs[module] = count + 1
        name = self.names[module]
        while count and name in self.taken:
            name = f'{self.names[module]}_{count}'
            count += 1
        self.taken.add(name)
        call = Call(name, type(module).__name__)
        if self.stack:
            self.stack[-1].parts.append(call)
        else:
            self.root = call
        self.stack.append(call)
        self.entered = (call, module, tensors_in(args))
        if isinstance(module, nn.Conv2d) and module.padding_mode != 'zeros':
            self.pad = (call, module._reversed_padding_repeated_twice)

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self.stack.pop()
        results = _results(output)
        if not results:
            return
        result = results[0]
        inputs = tensors_in(args)
        before = self.fields.get(inputs[0]) if inputs else None
        if before is not None and isinstance(module, _LAST_AXIS):
            self.fields.put(result, before.summed({-1}))
        elif before is not None and isinstance(module, _CHANNELS):
            self.fields.put(result, before)
        call.output_shape = tuple(int(size) for size in result.shape[1:])
        call.sees = self.fields.get(result)
        storage = result.untyped_storage()._cdata
        call.allocates = all(storage != given.untyped_storage()._cdata for given in inputs)


def _padded(window: Window, pad: Sequence[int]) -> Window:
    return replace(window, padding_before=window.padding_before + pad[0],
                   padding_after=window.padding_after + pad[1])


def _results(output: Any) -> list[torch.Tensor]:
    return tensors_in(list(output.values()) if isinstance(output, dict) else [output])


def trace(module: nn.Module, input_shape: tuple[int, ...]) -> Call:
    """
    Run a module that `on_meta` made once, on one image of shape (C, H, W), and return its run.

    The tree of calls accounts for every parameter once. Raises ArchitectureError where the
    network does not take such an input, with the layer that refused it.
    """
    load(META)
    image = torch.empty((1, *input_shape), device='meta')
    observer = _Observer(module, image)
    with ExitStack() as stack:
        for part in module.modules():
            # Scripted parts take no hooks, their work counts for the module around them; an
            # Identity is what a network leaves out, and no layer.
            if not isinstance(part, (torch.jit.ScriptModule, nn.Identity)):
                stack.callback(part.register_forward_pre_hook(observer.enter).remove)
                stack.callback(part.register_forward_hook(observer.leave).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(without_compiler_for_meta())
        try:
            with observer, TRACING.passing():
                module(image)
        except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
            at = observer.stack[-1] if observer.stack else None
            where = f' in {at.name} ({at.kind})' if at and at.name else ''
            reason = str(error)
            if observer.entered is not None and observer.entered[0] is at:
                reason = refusal(*observer.entered[1:], input_shape, error)
            raise ArchitectureError(
                f'the network does not take an input of {shape_text(input_shape)}{where}: '
                f'{reason}') from error
    if observer.root is None:
        raise ArchitectureError('the network ran nothing: expected a module with a forward')
    _charge_parameters(module, observer, observer.root)
    return observer.root


def _charge_parameters(module: nn.Module, observer: _Observer, root: Call) -> None:
    """Give every parameter to the run of the module that holds it, or that uses it."""
    calls: dict[str, Call] = {}
    waiting = [root]
    while waiting:
        call = waiting.pop()
        calls.setdefault(call.name, call)
        waiting += call.parts
    counted: set[int] = set()
    for name, part in module.named_modules():
        for parameter in part.parameters(recurse=False):
            if id(parameter) in counted:
                continue
            counted.add(id(parameter))
            holder = calls.get(name)
            if holder is None:
                holder = _holder(name, calls, id(parameter) in observer.used)
            holder.parameters += parameter.numel()


def _holder(name: str, calls: dict[str, Call], used: bool) -> Call:
    """Return the run around a module that does not run itself, or its own entry if unused."""
    top = path = name
    while path not in calls:
        top, path = path, path.rpartition('.')[0]
    if used or not calls[path].runs:
        return calls[path]
    unused = Call(top, 'unused', runs=False, allocates=False)
    calls[path].parts.append(unused)
    calls[top] = unused
    return unused
