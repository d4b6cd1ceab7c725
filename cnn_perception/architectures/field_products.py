"""
What matrix products and attention do to receptive fields, with a rule for every operand.

A map has gone into each result as a whole only where all of its positions were summed: attention
along the rows alone, or a product over the columns alone, leaves the field unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from .fields import MapField, UNKNOWN, WHOLE
from .operations import Operation

__all__ = ['attention', 'product']

_Fields = Sequence[MapField | None]


def product(operation: Operation, fields: _Fields) -> MapField:
    """
    Return the field of a matrix product, of which a bias may stand first.

    It sums over the last axis of its first factor, and over the last but one of its second.
    """
    first, second = list(fields)[-2:]
    bias = next((field for field in list(fields)[:-2] if field is not None), None)
    left = None if first is None else first.summed({-1})
    right = None if second is None else second.summed({-2})
    result = left or right
    if left is not None and right is not None:
        result = _both(left, right)
    if bias is None:
        return result or UNKNOWN
    if result is None:
        # What is added to every row, say, is not at one place any more.
        spread = operation.inputs[0].shape != operation.output.shape
        return bias.lost() if bias.axes and spread else bias
    return UNKNOWN if bias.axes else result.joined(bias)


def _both(left: MapField, right: MapField) -> MapField:
    if left.axes and right.axes and left.known and right.known:
        # One score for each pair of positions, as attention has them: what follows sums over all.
        return WHOLE if left.axes == {-2} and right.axes == {-1} else UNKNOWN
    return left.joined(right)


def attention(operation: Operation, fields: _Fields) -> MapField:
    """Return the field of attention: queries, keys, values, each (..., positions, features)."""
    query, *others = list(fields)[:3]
    if any(field is not None and not field.known for field in fields):
        return UNKNOWN
    seen = [field.summed({-2}) for field in others if field is not None]
    if not seen:
        return query or UNKNOWN
    return UNKNOWN if any(field.axes or not field.known for field in seen) else WHOLE
