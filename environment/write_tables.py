"""Write the parameter tables of the README from the one table in the code."""

from __future__ import annotations

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
        text = before + begin + parameters.markdown(table) + rest[end:]
    return text


if __name__ == '__main__':
    README.write_text(with_tables(README.read_text()))
