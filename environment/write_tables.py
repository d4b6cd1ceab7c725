"""Write the parameter tables of the README from the one table in the code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cnn_perception.ros import parameters

README = Path(__file__).resolve().parents[1] / 'README.md'
TABLES = {'classifier': parameters.CLASSIFIER, 'image_source': parameters.IMAGE_SOURCE}


def with_tables(text: str) -> str:
    """Return the README's text with its tables as the code has them."""
    for name, table in TABLES.items():
        begin = f'<!-- table: {name} -->\n'
        # Cut by hand: a table may hold what re.sub would take for a reference to a group.
        before, _, rest = text.partition(begin)
        end = rest.index('<!-- end -->')
        text = before + begin + markdown(table) + rest[end:]
    return text


def markdown(table: Iterable[parameters.Parameter]) -> str:
    """Return the table as the README shows it."""
    lines = ['| parameter | default | changes | meaning |', '|---|---|---|---|']
    for parameter in table:
        default = parameter.default
        shown = str(default).lower() if isinstance(default, bool) else default
        limits = ''
        if parameter.choices:
            limits = f' One of: {", ".join(f"`{choice}`" for choice in parameter.choices)}.'
        elif parameter.bounds is not None:
            limits = f' From {parameter.bounds[0]} to {parameter.bounds[1]}.'
        lines.append(f'| `{parameter.name}` | `{shown if shown != "" else repr("")}` | '
                     f'{parameters.WHEN[parameter.when]} | {parameter.description}{limits} |')
    return '\n'.join(lines) + '\n'


if __name__ == '__main__':
    README.write_text(with_tables(README.read_text()))
