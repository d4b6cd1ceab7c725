"""The layer table as text: for a terminal, in markdown, as comma-separated values, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
import csv
from dataclasses import asdict
import io
import json
from typing import Any, TYPE_CHECKING

from .errors import shape_text
from .table_rows import LayerRow

if TYPE_CHECKING:
    from .layer_table import LayerTable

__all__ = ['aligned', 'as_csv', 'as_json', 'as_markdown', 'as_text', 'bytes_text', 'count_text',
           'markdown']

_HEADINGS = ('name', 'type', 'kernel', 'stride', 'padding', 'output', 'parameters', '%',
             'multiply-adds', '%', 'receptive field', 'input stride')
_LEFT = 2
_NOTES = {
    '*': 'the kernel does not tile its input: rows or columns at its end, padding included, stay '
         'unread, or the last window hangs over them',
    'all': 'every output may see the whole input',
    '?': 'not followed: no window describes it (attention within windows, shifted, resampled or '
         'wrapped-around maps), or it lies behind an operation that this table does not know',
    '(own)': 'parameters and work of a block beside its layers',
    'unused': 'has parameters, but inference does not run it',
}


def as_text(table: LayerTable) -> str:
    """Return aligned columns, totals and footnotes; lines are not wrapped."""
    lines = aligned([_HEADINGS, *_cells(table)], left=_LEFT)
    rule = '-' * max(map(len, lines))
    return '\n'.join([_title(table), '', lines[0], rule, *lines[1:], rule, *_totals(table), '',
                      *_notes(table)]).rstrip() + '\n'


def as_markdown(table: LayerTable) -> str:
    """Return a GitHub table between the title and the totals."""
    return '\n'.join([f'**{_title(table)}**', '', *markdown([_HEADINGS, *_cells(table)], _LEFT),
                      '', *(f'- {line}' for line in _totals(table)), '',
                      *(f'{line}  ' for line in _notes(table))]).rstrip() + '\n'


def as_csv(table: LayerTable) -> str:
    """Return one line a layer; pairs are height x width, shares fractions."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator='\r\n')
    writer.writerow(('name', 'type', 'kernel', 'stride', 'padding', 'dilation', 'fits', 'output',
                     'parameters', 'parameters_share', 'multiply_adds', 'multiply_adds_share',
                     'receptive_field', 'whole_input', 'jump', 'offset_rows', 'offset_columns'))
    for row in table.rows:
        writer.writerow((
            row.name, row.kind, _product(row.kernel), _product(row.stride),
            _padding(row, short=False), _product(row.dilation),
            '' if row.fits is None else str(row.fits).lower(), _product(row.output_shape),
            row.parameters, f'{row.parameters_share:.6f}', row.multiply_adds,
            f'{row.multiply_adds_share:.6f}', _product(row.receptive_field),
            str(row.whole_input).lower(), _product(row.jump), *(row.offset or ('', ''))))
    return output.getvalue()


def as_json(table: LayerTable) -> str:
    """Return {network, input_shape, precision, totals, layers}, pairs as [height, width]."""
    totals = ('parameters', 'multiply_adds', 'weight_bytes', 'activation_bytes')
    return json.dumps({
        'network': table.network, 'input_shape': table.input_shape, 'precision': table.precision,
        'totals': {name: getattr(table, name) for name in totals},
        'layers': [_record(row) for row in table.rows]}, allow_nan=False)


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return one line a row, the first `left` columns flush left, the others flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ['  '.join(cell.ljust(width) if column < left else cell.rjust(width)
                      for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in rows]


def markdown(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return the lines of a GitHub table whose first row holds the headings."""
    rule = [':--' if column < left else '--:' for column in range(len(rows[0]))]
    escaped = [[cell.replace('|', '\\|').replace('*', '\\*') for cell in row] for row in rows]
    return ['| ' + ' | '.join(row) + ' |' for row in (escaped[0], rule, *escaped[1:])]


def count_text(count: int) -> str:
    """Return a count as people say it, 118013952 as '118.0 M'; below 10,000 exactly."""
    for factor, letter in ((10 ** 9, 'G'), (10 ** 6, 'M'), (10 ** 3, 'k')):
        if count >= factor and count >= 10_000:
            return f'{count / factor:.1f} {letter}' if letter != 'G' else f'{count / factor:.3f} G'
    return str(count)


def bytes_text(count: int) -> str:
    """Return a number of bytes in KiB, MiB or GiB, small ones exactly."""
    for factor, unit in ((2 ** 30, 'GiB'), (2 ** 20, 'MiB'), (2 ** 10, 'KiB')):
        if count >= factor:
            return f'{count / factor:.1f} {unit}'
    return f'{count} B'


def _record(row: LayerRow) -> dict[str, Any]:
    # The column is called type everywhere a person or a program reads it.
    return {'type' if name == 'kind' else name: value for name, value in asdict(row).items()}


def _title(table: LayerTable) -> str:
    return f'{table.network}, input {shape_text(table.input_shape)}'


def _totals(table: LayerTable) -> list[str]:
    return [
        f'parameters     {table.parameters:,}',
        f'multiply-adds  {table.multiply_adds:,} ({count_text(table.multiply_adds)}), one image',
        f'weights        {bytes_text(table.weight_bytes)} in {table.precision}',
        f'activations    {bytes_text(table.activation_bytes)} in {table.precision}, the outputs '
        'of all layers for one image',
    ]


def _notes(table: LayerTable) -> list[str]:
    cells = [cell for row in _cells(table) for cell in row[1:]]
    return [f'{mark}  {note}' for mark, note in _NOTES.items()
            if any(cell == mark or cell.endswith(mark) for cell in cells)]


def _cells(table: LayerTable) -> list[tuple[str, ...]]:
    return [(
        row.name, row.kind,
        _square(row.kernel) + _dilated(row) + ('*' if row.fits is False else ''),
        _square(row.stride), _padding(row), shape_text(row.output_shape),
        f'{row.parameters:,}' if row.parameters else '0', _percent(row.parameters_share),
        count_text(row.multiply_adds), _percent(row.multiply_adds_share),
        _field(row), _square(row.jump)) for row in table.rows]


def _field(row: LayerRow) -> str:
    if not row.runs:
        return ''
    if row.receptive_field is None:
        return '?'
    return 'all' if row.whole_input else _square(row.receptive_field)


def _percent(share: float) -> str:
    return f'{100 * share:.1f}' if share else ''


def _product(sizes: Sequence[float] | None) -> str:
    return '' if sizes is None else 'x'.join(f'{size:g}' for size in sizes)


def _square(sizes: Sequence[int] | None) -> str:
    return str(sizes[0]) if sizes and sizes[0] == sizes[1] else _product(sizes)


def _dilated(row: LayerRow) -> str:
    return '' if row.dilation in (None, (1, 1)) else f' every {_square(row.dilation)}'


def _padding(row: LayerRow, short: bool = True) -> str:
    if row.padding is None:
        return ''
    sides = [str(before) if before == after else f'{before}/{after}'
             for before, after in row.padding]
    return sides[0] if short and sides[0] == sides[1] else 'x'.join(sides)
