"""Write the parameter tables of the README from the one table in the code."""

from __future__ import annotations

from pathlib import Path
import re

from cnn_perception.ros import parameters

README = Path(__file__).resolve().parents[1] / 'README.md'
TABLES = {'classifier': parameters.CLASSIFIER, 'image_source': parameters.IMAGE_SOURCE}


def with_tables(text: str) -> str:
    """Return the README's text with its tables as the code has them."""
    for name, table in TABLES.items():
        text = re.sub(rf'(<!-- table: {name} -->\n).*?(<!-- end -->)',
                      lambda match, table=table: (
                          match[1] + parameters.markdown(table) + match[2]),
                      text, flags=re.DOTALL)
    return text


if __name__ == '__main__':
    README.write_text(with_tables(README.read_text()))
