"""Which maps of a layer to show, and the range of their values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ['as_maps', 'extremes', 'pick', 'present', 'strengths']


def as_maps(activation: np.ndarray) -> np.ndarray:
    """
    Return an activation as maps (C, h, w) float32, without a copy where it is that already.

    (C, h, w) are maps; (L, F), the tokens of a transformer, become one map. Raises TypeError for
    what is no array of numbers, ValueError for other shapes and for empty ones.
    """
    if not isinstance(activation, np.ndarray) or activation.dtype.kind not in 'fiub':
        kind = getattr(activation, 'dtype', type(activation).__name__)
        raise TypeError(f'activation is {kind}, expected a NumPy array (C, h, w) of float32; '
                        'give .numpy() of a tensor')
    if activation.ndim not in (2, 3) or 0 in activation.shape:
        raise ValueError(f'activation is {activation.shape}, expected maps (C, h, w) of one '
                         'picture; take one of a batch')
    maps = activation if activation.ndim == 3 else activation[None]
    return np.ascontiguousarray(maps, np.float32)


def extremes(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """
    Return the lowest and highest finite value of each map, and whether all values are finite.

    maps: (C, ...) float32; the first two are (C,) float32, 0 for a map without any finite value.
    """
    flat = maps.reshape(len(maps), -1)
    low, high = flat.min(axis=1), flat.max(axis=1)
    # Both are finite only where everything between them is, so that most frames need no more.
    clean = bool(np.isfinite(low).all() and np.isfinite(high).all())
    if not clean:
        finite = np.isfinite(flat)
        low = np.where(finite, flat, np.inf).min(axis=1)
        high = np.where(finite, flat, -np.inf).max(axis=1)
        empty = ~finite.any(axis=1)
        low[empty] = high[empty] = 0.0
    return low, high, clean


def present(channels: str | Sequence[int], shape: Sequence[int]) -> str | tuple[int, ...]:
    """
    Leave out the channels that a layer does not have, as one list serves layers of all sizes.

    shape: (C, h, w), or that of tokens or features, which have no channels to choose from. Returns
    all of them where the layer has none: drawing then says what is wrong.
    """
    if isinstance(channels, str):
        return channels
    if len(shape) != 3:
        return 'first'
    return tuple(channel for channel in channels if channel < shape[0]) or tuple(channels)


def strengths(maps: np.ndarray) -> np.ndarray:
    """
    Return the mean square of each map: (C, h, w) -> (C,) float32; what is not finite counts as 0.

    The mean and not the highest value: after ReLU6 the highest of most maps is the same 6.
    """
    flat = maps.reshape(len(maps), -1)
    mean = np.einsum('ij,ij->i', flat, flat) / flat.shape[1]
    if not np.isfinite(mean).all():
        clean = np.where(np.isfinite(flat), flat, 0.0).astype(np.float64)
        mean = np.einsum('ij,ij->i', clean, clean) / flat.shape[1]
    return mean


def pick(channels: int, how: str | Sequence[int], count: int,
         strength: np.ndarray | None = None) -> np.ndarray:
    """
    Choose from so many channels; returns (n,) channel numbers.

    how: `first`, `strongest` (equal ones by number) or a list of channel numbers, which is taken
    as it is. count: how many at most, for the first two. strength: (C,) of each channel, which
    `strongest` goes by. Raises ValueError where a number is not one of the layer's.
    """
    if isinstance(how, str):
        if count < 1:
            raise ValueError(f'count is {count}, expected at least 1 channel')
        if how == 'first':
            return np.arange(min(channels, count))
        if how == 'strongest' and strength is not None:
            return np.argsort(-strength, kind='stable')[:count]
        raise ValueError(f"channels are '{how}', expected 'first', 'strongest' or a list of "
                         'numbers')
    chosen = np.asarray(list(how))
    if chosen.size == 0 or chosen.dtype.kind not in 'iu':
        raise ValueError(f'channels are {list(how)}, expected at least one whole number')
    wrong = chosen[(chosen < 0) | (chosen >= channels)]
    if wrong.size:
        raise ValueError(f'there is no channel {wrong[0]}: this layer has {channels}, expected 0 '
                         f'to {channels - 1}')
    return chosen
