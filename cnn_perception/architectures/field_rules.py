"""
What each tensor operation does to a receptive field: one rule an operation, in one table.

Two general rules make others needless: an operation that PyTorch tags as pointwise joins its
inputs, and one that has no rule leaves the field unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from .arithmetic import AxisField, Window
from .field_products import attention, product
from .fields import MapField, UNKNOWN
from .operations import aten, Operation, tensors_in

__all__ = ['field_after']


def _slide(operation: Operation, field: MapField) -> MapField:
    windows = operation.windows
    if windows is None:
        # A one-dimensional convolution over channels, as channel attention has, keeps "all".
        return field if not field.axes else field.lost()
    return field.through(windows)


def _adaptive_pool(operation: Operation, field: MapField) -> MapField:
    before, after = operation.inputs[0].shape[-2:], operation.arguments['output_size']
    if list(after) == [1, 1]:
        return field.summed({-2, -1})
    if any(size % parts for size, parts in zip(before, after)):
        return field.lost()
    rows, columns = (Window(size // parts, size // parts) for size, parts in zip(before, after))
    return field.through((rows, columns))


def _reduction(operation: Operation, field: MapField) -> MapField:
    dimensions = operation.inputs[0].dim()
    axes = operation.axes('dim', dimensions)
    summed = field.summed(axes)
    if operation.arguments.get('keepdim'):
        return summed
    return summed.moved(lambda axis: axis + sum(1 for gone in axes if gone > axis))


def _softmax(operation: Operation, field: MapField) -> MapField:
    return field.mixed(operation.axes('dim', operation.inputs[0].dim()))


def _layer_norm(operation: Operation, field: MapField) -> MapField:
    normalised = len(operation.arguments['normalized_shape'])
    return field.mixed(set(range(-normalised, 0)))


def _group_norm(operation: Operation, field: MapField) -> MapField:
    return field.mixed({-1, -2})


def _batch_norm(operation: Operation, field: MapField) -> MapField:
    # With statistics of the input itself, as instance normalisation takes them.
    return field.mixed({-1, -2}) if operation.arguments.get('training') else field


def _concatenation(operation: Operation, field: MapField) -> MapField:
    axes = operation.axes('dim', operation.output.dim())
    # A class token beside merged positions changes nothing for those; two maps side by side do.
    return field.lost() if field.is_grid and axes & field.axes else field


def _stack(operation: Operation, field: MapField) -> MapField:
    new = next(iter(operation.axes('dim', operation.output.dim())))
    return field.moved(lambda axis: axis if axis > new else axis - 1)


def _pad(operation: Operation, field: MapField) -> MapField:
    pad = operation.padding or []
    if not field.is_grid:
        return field if not field.axes else field.lost()

    def shifted(along: AxisField, axis: int | None) -> AxisField:
        before = pad[2 * (-axis - 1)] if axis is not None and 2 * -axis <= len(pad) else 0
        return along.through(Window(1, 1, before))

    return replace(field, rows=shifted(field.rows, field.row_axis),
                   columns=shifted(field.columns, field.column_axis))


def _slice(operation: Operation, field: MapField) -> MapField:
    dimensions = operation.inputs[0].dim()
    axis = next(iter(operation.axes('dim', dimensions)))
    if axis not in field.axes:
        return field
    if not field.is_grid:
        return field.lost()
    start = operation.arguments['start'] or 0
    start = max(start + operation.inputs[0].shape[axis], 0) if start < 0 else start
    window = Window(1, operation.arguments['step'], -start)
    if axis == field.row_axis:
        return replace(field, rows=field.rows.through(window))
    return replace(field, columns=field.columns.through(window))


def _split(operation: Operation, field: MapField) -> MapField:
    axes = operation.axes('dim', operation.inputs[0].dim())
    return field.lost() if axes & field.axes else field


def _select(operation: Operation, field: MapField) -> MapField:
    gone = next(iter(operation.axes('dim', operation.inputs[0].dim())))
    return field.moved(
        lambda axis: None if axis == gone else axis + (1 if gone > axis else 0))


def _permute(operation: Operation, field: MapField) -> MapField:
    dimensions = operation.inputs[0].dim()
    order = list(range(dimensions))
    if operation.packet is aten.permute:
        order = [axis % dimensions for axis in operation.arguments['dims']]
    else:
        first = operation.arguments.get('dim0', 0) % dimensions
        second = operation.arguments.get('dim1', 1) % dimensions
        order[first], order[second] = order[second], order[first]
    return field.moved(lambda axis: order.index(axis % dimensions) - dimensions)


def _reshape(operation: Operation, field: MapField) -> MapField:
    before, after = list(operation.inputs[0].shape), list(operation.output.shape)
    places: dict[int, int | None] = {}
    shared: set[int] = set()
    for old, new in _groups(before, after):
        if sum(before[axis] != 1 for axis in old) > 1:
            shared.update(axis - len(before) for axis in old)
        large = [axis for axis in new if after[axis] != 1] or new[-1:]
        for axis in old:
            # An axis may move or be merged; where it is cut, positions cannot be told apart.
            cut = len(large) != 1
            places[axis - len(before)] = None if cut else large[0] - len(after)
    moved = field.moved(lambda axis: places.get(axis))
    # Rows that were merged with channels are no rows any more.
    return moved.lost() if moved.is_grid and shared & field.axes else moved


def _groups(before: list[int], after: list[int]) -> list[tuple[list[int], list[int]]]:
    """Match axes of two shapes with equal numbers of elements: ([1, 2], [1]) is a merge."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) and j < len(after):
        old, new = [i], [j]
        left, right = before[i], after[j]
        while left != right:
            if left < right:
                i += 1
                old.append(i)
                left *= before[i]
            else:
                j += 1
                new.append(j)
                right *= after[j]
        groups.append((old, new))
        i, j = i + 1, j + 1
    if groups:
        groups[-1][0].extend(range(i, len(before)))
        groups[-1][1].extend(range(j, len(after)))
    return groups


def _same(operation: Operation, field: MapField) -> MapField:
    return field


_Rule = Callable[[Operation, MapField], MapField]
_SeparateRule = Callable[[Operation, Sequence[MapField | None]], MapField]

_NAMES: dict[_Rule, str] = {
    _same: 'alias clone detach _to_copy expand lift_fresh copy_ native_dropout channel_shuffle '
           'native_channel_shuffle hardswish hardswish_ _prelu_kernel',
    _slide: 'convolution max_pool2d_with_indices avg_pool2d',
    _adaptive_pool: '_adaptive_avg_pool2d adaptive_max_pool2d',
    _reduction: 'mean sum amax amin max min var var_mean std std_mean linalg_vector_norm',
    _softmax: '_softmax _safe_softmax _log_softmax',
    _batch_norm: 'native_batch_norm cudnn_batch_norm',
    _layer_norm: 'native_layer_norm',
    _group_norm: 'native_group_norm',
    _concatenation: 'cat',
    _stack: 'stack',
    _pad: 'constant_pad_nd reflection_pad2d replication_pad2d',
    _slice: 'slice',
    _split: 'split split_with_sizes',
    _select: 'select unbind',
    _permute: 'permute transpose t',
    _reshape: 'view _unsafe_view unsqueeze squeeze',
}
_OF_EQUALS = (_concatenation, _stack)
_SEPARATE_NAMES: dict[_SeparateRule, str] = {
    product: 'mm addmm bmm baddbmm',
    attention: '_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention '
               '_scaled_dot_product_efficient_attention',
}
# Not every version of PyTorch has each of them.
_RULES = {getattr(aten, name): rule for rule, names in _NAMES.items()
          for name in names.split() if hasattr(aten, name)}
_SEPARATE_RULES = {getattr(aten, name): rule for rule, names in _SEPARATE_NAMES.items()
                   for name in names.split() if hasattr(aten, name)}


def field_after(operation: Operation, fields: Sequence[MapField | None],
                image: tuple[int, int]) -> MapField:
    """
    Return the field of an operation's output.

    fields has one entry for each of the operation's input tensors, None for weights and other
    constants; at least one is a field. image is the (height, width) of the network's input.
    """
    separate = _SEPARATE_RULES.get(operation.packet)
    if separate is not None:
        return separate(operation, fields)
    rule = _RULES.get(operation.packet)
    elementwise = rule is _same or (rule is None and torch.Tag.pointwise in operation.kind.tags)
    present = [_spread(operation, tensor, field, image) if elementwise else field
               for tensor, field in zip(operation.inputs, fields) if field is not None]
    if not elementwise and rule not in _OF_EQUALS and any(one.axes for one in present[1:]):
        # Kernels or statistics that are maps themselves: all their positions go into each result.
        return UNKNOWN
    field = present[0]
    for other in present[1:]:
        field = field.joined(other)
    if rule is not None:
        return rule(operation, field)
    return field if elementwise or not field.axes else UNKNOWN


def _spread(operation: Operation, tensor: torch.Tensor, field: MapField,
            image: tuple[int, int]) -> MapField:
    """Return the field of a tensor at the size to which it is broadcast."""
    sizes = tensors_in([operation.output])[0].shape
    return field.spread({axis for axis in range(-tensor.dim(), 0)
                         if tensor.shape[axis] == 1 != sizes[axis]}, image)
