"""
The layer table: what every layer of a network is, costs and sees, as a lecturer would draw it.

The numbers come from one forward pass on the meta device (see `trace`): nothing is estimated from
names, and no memory is needed even for a network of a billion parameters. Parameters equal the
`num_params` of torchvision's weight metadata, multiply-adds its `_ops`: those of convolutions and
matrix products, without biases, normalisation and activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import nn

from . import table_text
from .catalogue import create, input_shape as own_input_shape, stated_input_shape
from .errors import ArchitectureError, did_you_mean, shown
from .skeleton import constants_to_meta, on_meta, skeleton
from .table_rows import LayerRow
from .tracing import Call, trace

__all__ = ['LayerRow', 'LayerTable', 'PRECISIONS', 'describe']

_LARGEST_SIDE = 2 ** 20
PRECISIONS = {'float32': 4, 'float16': 2, 'bfloat16': 2, 'int8': 1}
"""Bytes of one number."""


@dataclass(frozen=True)
class LayerTable:
    """
    The rows of a network and their totals.

    input_shape is (C, H, W). parameters and multiply_adds are those of the rows together;
    weight_bytes are the parameters', activation_bytes the outputs' of all layers for one image,
    as training keeps them, in the chosen precision. Views (flatten) and dropout at inference need
    no memory and are not in it.
    """

    network: str
    input_shape: tuple[int, ...]
    precision: str
    rows: tuple[LayerRow, ...]
    parameters: int
    multiply_adds: int
    weight_bytes: int
    activation_bytes: int

    def __getitem__(self, name: str) -> LayerRow:
        """Return the row of a name; raises ArchitectureError with near matches."""
        for row in self.rows:
            if row.name == name:
                return row
        near = did_you_mean(name, (row.name for row in self.rows))
        raise ArchitectureError(f'{self.network} has no layer {shown(name)}.{near} Its layers are '
                                'the names in the first column of describe')

    def to_text(self) -> str:
        """Return the table for a terminal, with its totals and footnotes."""
        return table_text.as_text(self)

    def to_markdown(self) -> str:
        """Return the table in GitHub's markdown."""
        return table_text.as_markdown(self)

    def to_csv(self) -> str:
        """Return the rows as comma-separated values (RFC 4180), whole numbers, with a header."""
        return table_text.as_csv(self)

    def to_json(self) -> str:
        """Return rows and totals as one JSON object; what is unknown is null."""
        return table_text.as_json(self)


def describe(module_or_name: nn.Module | str, input_shape: tuple[int, ...] | None = None,
             depth: int | None = None, precision: str = 'float32') -> LayerTable:
    """
    Describe a network by its name, see `catalogue.create`, or as a module.

    input_shape (C, H, W) None is the network's own. depth sums up whatever lies deeper into the
    block around it; 1 leaves the blocks of the network itself. precision is one of PRECISIONS. A
    module may be in use elsewhere: its structure is copied, its weights are not read. Raises
    ArchitectureError for unknown names, inputs that the network does not take, and options that
    mean nothing.
    """
    if precision not in PRECISIONS:
        raise ArchitectureError(f'precision: got {shown(precision)}, expected one of '
                                f'{", ".join(PRECISIONS)}')
    if depth is not None and (type(depth) is not int or depth < 1):
        raise ArchitectureError(f'depth: got {shown(depth)}, expected a whole number of at least '
                                '1, or nothing for all layers')
    name, module, shape = _resolve(module_or_name)
    shape = _checked(input_shape) if input_shape is not None else shape
    if shape is None:
        raise ArchitectureError(f'{name} does not say what input it takes: give input_shape, '
                                'channels x height x width')
    try:
        root = _traced(on_meta(module), shape)
    except ArchitectureError as error:
        raise ArchitectureError(f'{name}: {error}') from error
    everything = list(_descendants(root))
    parameters = sum(call.parameters for call in everything)
    multiply_adds = sum(call.multiply_adds for call in everything)
    rows = tuple(_row(call, within, shape, parameters, multiply_adds)
                 for call, within in _lines(root, depth))
    size = PRECISIONS[precision]
    return LayerTable(name, shape, precision, rows, parameters, multiply_adds, parameters * size,
                      sum(row.activations for row in rows) * size)


def _resolve(network: nn.Module | str) -> tuple[str, nn.Module, tuple[int, ...] | None]:
    if isinstance(network, str):
        module = skeleton(create, network)
        return network, module, own_input_shape(network, module)
    # torch.compile wraps what it compiles.
    module = getattr(network, '_orig_mod', network)
    shape = stated_input_shape(module)
    return type(module).__name__, module, _checked(shape) if shape is not None else None


def _checked(shape: object) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else ()
    if len(sizes) != 3 or not all(
            type(size) is int and 0 < size <= _LARGEST_SIDE for size in sizes):
        raise ArchitectureError(f'input: got {shown(shape)}, expected three whole numbers from 1 '
                                f'to {_LARGEST_SIDE}, channels x height x width')
    return sizes


def _traced(module: nn.Module, shape: tuple[int, ...]) -> Call:
    try:
        return trace(module, shape)
    except ArchitectureError:
        # Constants that are no buffers, and those that `forward` makes, are not on the meta
        # device; they are put there only where this fails, as some forward passes read them.
        constants_to_meta(module)
        with suppress(ArchitectureError), torch.device('meta'):
            return trace(module, shape)
        raise


def _descendants(call: Call) -> Iterator[Call]:
    for part in call.parts:
        yield from _descendants(part)
    yield call


def _lines(call: Call, depth: int | None, level: int = 0) -> Iterator[tuple[Call, list[Call]]]:
    """Yield what becomes a row, with the runs that are summed up in it, in running order."""
    if not call.parts or (depth is not None and level >= depth):
        yield call, list(_descendants(call))
        return
    for part in call.parts:
        yield from _lines(part, depth, level + 1)
    if call.parameters or call.multiply_adds:
        yield call, [call]


def _row(call: Call, within: list[Call], shape: tuple[int, ...], parameters: int,
         multiply_adds: int) -> LayerRow:
    alone = bool(call.parts) and len(within) == 1
    leaves = [part for part in within if not part.parts]
    windows, sees = (None if call.parts else call.windows), call.sees
    fits = [part.fits for part in within if part.fits is not None]
    field = jump = offset = None
    if sees is not None and sees.known:
        field = (shape[1], shape[2]) if sees.whole else (sees.rows.size, sees.columns.size)
        if sees.is_grid:
            jump = (sees.rows.jump, sees.columns.jump)
            offset = (sees.rows.centre, sees.columns.centre)
    own = sum(part.parameters for part in within)
    work = sum(part.multiply_adds for part in within)
    return LayerRow(
        name=call.name or '(network)',
        kind=f'{call.kind} (own)' if alone else call.kind,
        kernel=windows and (windows[0].kernel, windows[1].kernel),
        stride=windows and (windows[0].stride, windows[1].stride),
        padding=windows and (
            (windows[0].padding_before, windows[0].padding_after),
            (windows[1].padding_before, windows[1].padding_after)),
        dilation=windows and (windows[0].dilation, windows[1].dilation),
        fits=all(fits) if fits else None,
        output_shape=call.output_shape, parameters=own, multiply_adds=work,
        parameters_share=own / parameters if parameters else 0.0,
        multiply_adds_share=work / multiply_adds if multiply_adds else 0.0,
        activations=sum(part.size for part in leaves if part.allocates),
        receptive_field=field, whole_input=bool(sees and sees.whole), jump=jump, offset=offset,
        runs=call.runs)
