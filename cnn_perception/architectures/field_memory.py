"""
Which receptive field each tensor of a run has, also where several share their memory.

A slice is a view: writing into it changes the map that it was cut from, and every other view of
that map, without any operation on them.
"""

from __future__ import annotations

import torch
from torch.utils.weak import WeakIdKeyDictionary

from .fields import MapField, UNKNOWN

__all__ = ['FieldMemory']


class FieldMemory:
    """The fields of tensors, kept as long as the tensors themselves."""

    def __init__(self) -> None:
        """Begin without any; a tensor without a field is a constant."""
        self._fields = WeakIdKeyDictionary()
        self._changed: dict[int, tuple[torch.UntypedStorage, int]] = {}
        self._moment = 0

    def get(self, tensor: torch.Tensor) -> MapField | None:
        """Return a tensor's field, None for a constant."""
        field, since = self._fields.get(tensor, (None, 0))
        _, changed = self._changed.get(tensor.untyped_storage()._cdata, (None, 0))
        return UNKNOWN if since < changed else field

    def put(self, tensor: torch.Tensor, field: MapField) -> None:
        """Give a new tensor its field."""
        self._moment += 1
        self._fields[tensor] = (field, self._moment)

    def write(self, tensor: torch.Tensor, field: MapField) -> None:
        """Give a tensor that was written to its field; others in its memory may lose theirs."""
        same = field == self.get(tensor)
        self.put(tensor, field)
        if not same:
            storage = tensor.untyped_storage()
            # Kept, as the memory of one that is gone may be given to another.
            self._changed[storage._cdata] = (storage, self._moment)
