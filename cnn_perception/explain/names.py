"""From what a user writes to the names of layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import difflib
from fnmatch import fnmatchcase
import math

from cnn_perception.architectures.errors import shape_text

__all__ = ['AUTO', 'is_single', 'is_spatial', 'maps_of', 'resolve_layers']

AUTO = 'auto'
MOST_AXES = 3
# Operations that give matrices of how much everything has to do with everything.
PRODUCTS = ('baddbmm', 'bmm', 'matmul', 'softmax')

Shape = tuple[int, ...]


def resolve_layers(patterns: Iterable[str], layer_names: Sequence[str],
                   shapes: Mapping[str, Shape] | None = None) -> list[str]:
    """
    Turn patterns into layer names, in the order of the patterns and without repetition.

    A pattern is a name, the name of a block (layer3, of layer3.0.conv1 and so on), which stands
    for its output, a name with the wildcards *, ? and [...], which stands for all that match in
    the order of the forward pass, or `auto`: an early, a middle and a late layer with rows and
    columns, each the last one before the maps become smaller; where there are fewer, layers of
    tokens or features. shapes: (C, h, w), (L, F) or (F,) of each layer, see `NetworkLayers`;
    `auto` needs them, and layers that cannot be shown, because they give no tensor or one of more
    axes, are refused. Raises ValueError with near matches for what names no layer.
    """
    known = [name for name in layer_names
             if shapes is None or 1 <= len(shapes.get(name, ())) <= MOST_AXES]
    chosen: dict[str, None] = {}
    for pattern in patterns:
        if pattern in known:
            found = [pattern]
        elif pattern not in layer_names and (end := end_of_block(pattern, known)):
            found = [end]
        elif pattern == AUTO:
            if shapes is None:
                raise ValueError("'auto' chooses layers by their shapes, which were not given: "
                                 'pass those of NetworkLayers')
            found = automatic({name: shapes[name] for name in known})
        else:
            found = [name for name in known if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(unshowable(pattern, (shapes or {}).get(pattern))
                             if pattern in layer_names else complaint(pattern, known))
        chosen.update(dict.fromkeys(found))
    return list(chosen)


def end_of_block(block: str, names: Sequence[str]) -> str:
    """Return the last of the layers in a block, which gives the block's output; '' without any."""
    return next((name for name in reversed(names) if name.startswith(f'{block}.')), '')


def unshowable(name: str, shape: Shape | None) -> str:
    """Say why a layer cannot be shown."""
    if shape is None:
        return f"layer '{name}' gives numbers for the program, not a tensor that can be shown"
    return (f"layer '{name}' gives {shape_text(shape) or 'a single number'}, expected "
            'maps (C x h x w), tokens (L x F) or features (F)')


def complaint(pattern: str, known: Sequence[str]) -> str:
    """Say why a pattern names no layer, and what would."""
    if any(sign in pattern for sign in '*?['):
        reason = f"no layer matches '{pattern}'"
        stem = pattern.split('*')[0].rstrip('.')
        near = [name for name in known if stem and name.startswith(stem)][:3]
    else:
        reason = f"no layer is called '{pattern}'"
        near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4)
    if not known:
        return reason
    return reason + (f'; near matches: {", ".join(near)}' if near
                     else f"; there are {known[0]} to {known[-1]}, and 'auto'") + (
        '; all are listed by ~/list_layers and by visualize --list')


def automatic(shapes: Mapping[str, Shape]) -> list[str]:
    """Choose three layers: the ends of the first, the middle and the last stage."""
    chosen = automatic_maps(maps_of(shapes))
    names = list(shapes)
    later = names[names.index(chosen[-1]) + 1:] if chosen else names
    tokens = Counter(shapes[name] for name in later if len(shapes[name]) == 2)
    if tokens.total() > len(names) / 2:
        # The maps are only those of a stem: the middle and the end are among the tokens.
        chosen = chosen[:1]
    if len(chosen) >= 3:
        return chosen
    # Without more rows and columns there is still a middle and an end: of the tokens, in the
    # shape that most layers have, or of the features.
    shape = tokens.most_common(1)[0][0] if tokens else None
    rest = [name for name in later
            if (shapes[name] == shape if shape else len(shapes[name]) == 1)]
    missing = 3 - len(chosen)
    return chosen + (rest if len(rest) <= missing else spread(rest)[-missing:])


def maps_of(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the layers with rows and columns, which only become fewer on the way."""
    first = next((shape for shape in shapes.values() if is_spatial(shape, shape)), (0, 1, 1))
    # Attention has rows and columns too, one for each token or each channel.
    attention = {shape for name, shape in shapes.items()
                 if name.rpartition('.')[2].rstrip('_0123456789') in PRODUCTS}
    maps: dict[str, Shape] = {}
    fewest = math.inf
    for name, shape in shapes.items():
        if is_spatial(shape, first) and shape not in attention and shape[1] * shape[2] <= fewest:
            maps[name] = shape
            fewest = shape[1] * shape[2]
    return maps


def automatic_maps(spatial: Mapping[str, Shape]) -> list[str]:
    """Choose up to three layers of those with rows and columns."""
    ends = stage_ends(spatial)
    if len(ends) == 2:
        names = list(spatial)
        start, end = names.index(ends[0]), names.index(ends[1])
        # Adjacent ends have nothing between them: the middle is then the first of the two.
        ends.insert(1, names[(start + end + 1) // 2])
    return list(dict.fromkeys(spread(ends if len(ends) >= 3 else list(spatial))))


def is_spatial(shape: Shape, like: Shape) -> bool:
    """
    Tell whether a shape is (C, h, w) with more than one place, in the proportions of `like`.

    Networks that keep channels last in between, or rearrange windows, show other proportions.
    """
    return (len(shape) == 3 and shape[1] * shape[2] > 1
            and 0.7 < shape[1] * like[2] / (shape[2] * like[1]) < 1.43)


def is_single(shape: Shape) -> bool:
    """Tell whether a layer of this shape gives features, (F,), or maps of one place."""
    return len(shape) == 1 or (len(shape) == 3 and shape[1:] == (1, 1))


def spread(names: Sequence[str]) -> list[str]:
    """Take the first, the middle and the last of a list, fewer from a shorter one."""
    if len(names) <= 3:
        return list(names)
    return [names[0], names[len(names) // 2], names[-1]]


def stage_ends(spatial: Mapping[str, Shape]) -> list[str]:
    """List the last layer of each resolution, in the order of the forward pass."""
    stages: dict[tuple[int, int], list[str]] = {}
    for name, (_, height, width) in spatial.items():
        stages.setdefault((height, width), []).append(name)
    ends: list[str] = []
    # What passes the picture itself on is no stage either.
    channels = 3
    for names in stages.values():
        # One or two layers that change nothing but the resolution are poolings.
        pooling = len(names) <= 2 and all(spatial[name][0] == channels for name in names)
        if not pooling:
            ends.append(names[-1])
        channels = spatial[names[-1]][0]
    return ends
