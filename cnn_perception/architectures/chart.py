"""
The lectures' chart of networks: accuracy over multiply-adds, circles sized by parameters.

After Canziani, Paszke and Culurciello, "An Analysis of Deep Neural Network Models for Practical
Applications" (arXiv:1605.07678), figure 2.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from .comparison import Compared, Comparison
from .errors import ArchitectureError

__all__ = ['draw_chart', 'family_colours']

Circle = tuple[float, float, float]

_POINTS_PER_PARAMETER = 1.6e-5
_COLOURS = ('#4477aa', '#ee6677', '#228833', '#ccbb44', '#66ccee', '#aa3377', '#ee7733', '#332288',
            '#88dd88', '#885522', '#dd99dd', '#008888')
_MORE = '#777777'
_INK = '#222222'
_PALE = '#8a8a8a'
_LOGARITHMIC_FROM = 30
_RINGS = (5e6, 25e6, 100e6)


def draw_chart(comparison: Comparison, path: Path) -> list[str]:
    """
    Write the chart as a PNG of 1650 x 1050 pixels and return the names it leaves out.

    A circle's area is in proportion to the parameters. Networks without a published accuracy
    cannot be placed and are left out. Raises ArchitectureError if that leaves none, and where the
    file cannot be written.
    """
    shown = [row for row in comparison.networks if row.accuracy is not None]
    if not shown:
        raise ArchitectureError('no network has a published accuracy, so there is nothing to '
                                "draw: add one of torchvision's, or leave the chart out")
    figure = Figure(figsize=(11, 7), dpi=150, facecolor='white')
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.075, 0.105, 0.90, 0.765))
    _scales(axes, shown)
    colours = family_colours(shown)
    for row in sorted(shown, key=lambda one: -one.parameters):
        at = ([row.multiply_adds / 1e9], [row.accuracy or 0.0])
        axes.scatter(*at, color=colours[row.network],
                     s=row.parameters * _POINTS_PER_PARAMETER, alpha=0.6, linewidth=1.2,
                     edgecolor=colours[row.network], zorder=2)
        axes.scatter(*at, color=_INK, s=7, zorder=3)
    _decorate(figure, axes, comparison)
    _clear_corner(axes, shown)
    rings = _ring_legend(axes)
    canvas.draw()
    _label(axes, shown, colours, canvas.get_renderer(), rings)
    try:
        canvas.print_png(str(path))
    except OSError as error:
        raise ArchitectureError(f'{path} cannot be written ({error.strerror}): give --out a file '
                                'in a folder that exists') from error
    return [row.network for row in comparison.networks if row.accuracy is None]


def _scales(axes: Any, shown: Sequence[Compared]) -> None:
    work = [row.multiply_adds / 1e9 for row in shown]
    accuracies = [row.accuracy or 0.0 for row in shown]
    if max(work) > _LOGARITHMIC_FROM * min(work):
        axes.set_xscale('log')
        axes.set_xlim(min(work) / 1.8, max(work) * 1.8)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    else:
        axes.set_xlim(-0.06 * max(work), max(work) * 1.14)
    room = max(max(accuracies) - min(accuracies), 4.0)
    axes.set_ylim(min(accuracies) - 0.22 * room, max(accuracies) + 0.2 * room)


def family_colours(shown: Sequence[Compared]) -> dict[str, str]:
    """
    Return a colour, #rrggbb, by network: one for each family, whose names begin with one word.

    Families beyond the colours that can be told apart are grey.
    """
    families: dict[str, str] = {}
    colours = {}
    for row in shown:
        family = ''
        for letter in row.network:
            if not letter.isalpha():
                break
            family += letter
        if family not in families:
            families[family] = (*_COLOURS, _MORE)[min(len(families), len(_COLOURS))]
        colours[row.network] = families[family]
    return colours


def _decorate(figure: Figure, axes: Any, comparison: Comparison) -> None:
    axes.set_xlabel('multiply-adds for one image (billions)', fontsize=12, color=_INK)
    axes.set_ylabel('top-1 accuracy on ImageNet (%)', fontsize=12, color=_INK)
    axes.grid(color='#e4e4e4', linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=11, length=0)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.spines['bottom'].set_color('#bbbbbb')
    figure.text(0.075, 0.945, 'Accuracy, work and size', fontsize=16,
                color=_INK, weight='bold')
    below = 'area of a circle: parameters'
    if comparison.machine:
        below += f'  |  ms: one image on {comparison.machine}'
    figure.text(0.075, 0.908, below, fontsize=10, color=_PALE)


def _clear_corner(axes: Any, shown: Sequence[Compared]) -> None:
    """Lower the floor where a circle would reach into the corner of the rings."""
    size, (floor, ceiling) = axes.get_window_extent(), axes.get_ylim()
    left, upper = size.x1 - sum(2.3 * _radius(axes, ring) for ring in _RINGS), 0.08 * size.height
    upper += 2.0 * _radius(axes, _RINGS[-1])
    for row in shown:
        radius = _radius(axes, row.parameters)
        x, y = axes.transData.transform((row.multiply_adds / 1e9, row.accuracy))
        share = min(0.7, (upper + radius) / size.height)
        if x + radius > left and y - size.y0 < share * size.height:
            floor = min(floor, ceiling - (ceiling - row.accuracy) / (1.0 - share))
    axes.set_ylim(floor, ceiling)


def _radius(axes: Any, parameters: float) -> float:
    """Return a circle's radius in pixels."""
    return math.sqrt(parameters * _POINTS_PER_PARAMETER / math.pi) * axes.figure.dpi / 72


def _ring_legend(axes: Any) -> list[Bbox]:
    """Draw rings of known size in the corner that accurate networks leave free."""
    boxes = []
    across = 0.985
    for parameters in reversed(_RINGS):
        size, radius = axes.get_window_extent(), _radius(axes, parameters)
        x = across - radius / size.width
        y = 0.075 + _radius(axes, _RINGS[-1]) / size.height
        area = parameters * _POINTS_PER_PARAMETER
        axes.scatter([x], [y], s=area, transform=axes.transAxes, facecolor='none',
                     edgecolor=_PALE, linewidth=1.0, zorder=1)
        axes.text(x, 0.025, f'{parameters / 1e6:.0f} M', transform=axes.transAxes, ha='center',
                  va='bottom', fontsize=9.5, color=_PALE)
        boxes.append(Bbox.from_bounds(size.x0 + x * size.width - radius, size.y0,
                                      2 * radius, size.height * 0.17))
        across = x - radius / size.width - 0.03
    return boxes


def _label(axes: Any, shown: Sequence[Compared], colours: dict[str, str], renderer: Any,
           taken: list[Bbox]) -> None:
    """Write each name beside its circle, where it covers the least of what is there already."""
    circles = []
    for row in shown:
        x, y = axes.transData.transform((row.multiply_adds / 1e9, row.accuracy))
        circles.append((x, y, max(_radius(axes, row.parameters), 4.0)))
    bounds = axes.get_window_extent()
    order = sorted(range(len(shown)), key=lambda index: -circles[index][2])
    for index in order:
        row, (x, y, radius) = shown[index], circles[index]
        words = row.network + ('' if row.latency_ms is None else f'\n{row.latency_ms:.0f} ms')
        text = axes.text(0, 0, words, fontsize=11, color=_darker(colours[row.network]),
                         ha='center', va='center', linespacing=1.25, zorder=4, transform=None)
        extent = text.get_window_extent(renderer)
        best = None
        for distance in (6.0, 18.0, 34.0, 54.0):
            for step in range(16):
                angle = math.pi / 2 - step * math.pi / 8
                reach_x = radius + distance + extent.width / 2
                reach_y = radius + distance + extent.height / 2
                at = (x + reach_x * math.cos(angle), y + reach_y * math.sin(angle))
                box = Bbox.from_bounds(at[0] - extent.width / 2, at[1] - extent.height / 2,
                                       extent.width, extent.height)
                others = [circle for other, circle in enumerate(circles) if other != index]
                cost = distance + _covered(box, circles, taken, bounds) + _doubt(
                    box, circles[index], others)
                if best is None or cost < best[0]:
                    best = (cost, at, box)
        if best is not None:
            text.set_position(best[1])
            taken.append(best[2])


def _doubt(box: Bbox, own: Circle, others: Sequence[Circle]) -> float:
    """Return how easily a label at this place is taken for another circle's."""
    distance = _gap(box, own)
    return sum(max(0.0, 2.0 * distance + 12 - _gap(box, other)) for other in others)


def _gap(box: Bbox, circle: Circle) -> float:
    x, y, radius = circle
    near_x = min(max(x, box.x0), box.x1) - x
    near_y = min(max(y, box.y0), box.y1) - y
    return math.hypot(near_x, near_y) - radius


def _darker(colour: str) -> tuple[float, ...]:
    return tuple(0.55 * part for part in to_rgb(colour))


def _covered(box: Bbox, circles: Sequence[Circle], taken: Sequence[Bbox],
             bounds: Bbox) -> float:
    """Return how much a label at this place would hide, in pixels squared, weighted."""
    cost = 0.0
    for other in taken:
        overlap = Bbox.intersection(box, other)
        if overlap is not None:
            cost += 40 * overlap.width * overlap.height + 1000
    for circle in circles:
        depth = 3 - _gap(box, circle)
        if depth > 0:
            cost += 20 * depth + 100
    inside = Bbox.intersection(box, bounds)
    hidden = box.width * box.height - (inside.width * inside.height if inside else 0.0)
    return cost + 40 * hidden
