"""
The receptive field of a feature map: where its rows and columns look in the network's input.

Sums and concatenations join the fields of their paths. What mixes all positions (global pooling,
attention, fully-connected layers on flattened maps) sees the whole input; what no window describes
(attention inside windows, shifted maps, resampling), or no rule here follows, is unknown from
there on, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .arithmetic import AxisField, IDENTITY, Window

__all__ = ['MapField', 'UNKNOWN', 'WHOLE']


@dataclass(frozen=True)
class MapField:
    """
    How one tensor looks back at the network's input.

    rows and columns are the fields along the image's axes, in input pixels. row_axis and
    column_axis say where those axes lie in the tensor, counted from its end (-2 and -1 in
    (N, C, H, W)); equal ones were merged by a flatten, None are gone. whole: every element may
    see the whole input; known: False from where on no window describes the field.
    """

    rows: AxisField = IDENTITY
    columns: AxisField = IDENTITY
    row_axis: int | None = -2
    column_axis: int | None = -1
    whole: bool = False
    known: bool = True

    @property
    def axes(self) -> set[int]:
        """Return the tensor's axes, counted from its end, along which the position changes."""
        return {axis for axis in (self.row_axis, self.column_axis) if axis is not None}

    @property
    def is_grid(self) -> bool:
        """Whether rows and columns are still two axes of the tensor."""
        return len(self.axes) == 2

    def through(self, windows: tuple[Window, Window]) -> MapField:
        """Return the field behind a convolution or pooling of an (N, C, H, W) tensor."""
        if not self.axes:
            return self
        if (self.row_axis, self.column_axis) != (-2, -1):
            return self.lost()
        return replace(self, rows=self.rows.through(windows[0]),
                       columns=self.columns.through(windows[1]))

    def mixed(self, axes: set[int]) -> MapField:
        """Return the field after every position along these axes went into each result."""
        if not axes & self.axes:
            return self
        return replace(self, whole=True) if axes >= self.axes else self.lost()

    def summed(self, axes: set[int]) -> MapField:
        """Return the field after a sum along these axes, which are no positions afterwards."""
        if not axes & self.axes:
            return self
        return WHOLE if axes >= self.axes else self.lost()

    def spread(self, axes: set[int], image: tuple[int, int]) -> MapField:
        """
        Return the field of a map whose only position along these axes is used for many.

        image is the (height, width) of the network's input.
        """
        if not axes & self.axes:
            return self
        everything = self.rows.covers(image[0]) and self.columns.covers(image[1])
        return WHOLE if axes >= self.axes and everything else self.lost()

    def joined(self, other: MapField) -> MapField:
        """Return the field of two tensors combined element by element, as in a sum."""
        if not (self.known and other.known):
            return UNKNOWN
        whole = self.whole or other.whole
        if not (self.axes and other.axes):
            return replace(self if self.axes else other, whole=whole)
        rows, columns = self.rows.joined(other.rows), self.columns.joined(other.columns)
        same = (self.row_axis, self.column_axis) == (other.row_axis, other.column_axis)
        if not same or rows is None or columns is None:
            return WHOLE if whole else UNKNOWN
        return replace(self, rows=rows, columns=columns, whole=whole)

    def moved(self, place: Callable[[int], int | None]) -> MapField:
        """Return the field with its axes where `place` puts them; None is nowhere."""
        if self.row_axis is None or self.column_axis is None:
            return self
        row, column = place(self.row_axis), place(self.column_axis)
        if row is None or column is None:
            return self.lost()
        return replace(self, row_axis=row, column_axis=column)

    def lost(self) -> MapField:
        """Return the field where positions can no longer be told apart."""
        return WHOLE if self.whole else UNKNOWN


WHOLE = MapField(row_axis=None, column_axis=None, whole=True)
UNKNOWN = MapField(row_axis=None, column_axis=None, known=False)
