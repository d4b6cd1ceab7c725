"""
`describe`: the layer table of a network, the list of networks, their comparison.

    describe resnet18 --depth 1
    describe config/architectures/lenet.yaml --format markdown
    describe --list 'res*'
    describe --compare alexnet vgg16 resnet18 --out chart.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
import re
import sys

from cnn_perception.architectures import ArchitectureError, names
from cnn_perception.architectures.comparison import compare, WEIGHTS
from cnn_perception.architectures.layer_table import describe, PRECISIONS
from cnn_perception.console import write

__all__ = ['main']

_TABLE, _COMPARE = 'the table of one network', '--compare'
BELONGS = {**dict.fromkeys(('input', 'depth', 'precision'), (_TABLE,)),
           **dict.fromkeys(('out', 'no_latency', 'rounds', 'weights'), (_COMPARE,)),
           'format': (_TABLE, _COMPARE)}
_FORMATS = ('text', 'markdown', 'csv', 'json')


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line; argv without the program's name, None for the process's own.

    Returns 0, or 2 after saying on standard error what is wrong with a name, a file or an option.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        text = _answer(options, parser)
    except ArchitectureError as error:
        print(f'describe: {error}', file=sys.stderr)
        return 2
    write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='describe', description='The layer table of a network; or networks listed, compared.')
    parser.add_argument(
        'network', nargs='?',
        help='name of a network (resnet18, lenet5, timm/convnext_tiny) or path of a YAML file')
    parser.add_argument('--input', metavar='CxHxW', help="input shape, 3x480x640; the network's "
                        'own if left out')
    parser.add_argument('--depth', type=int, metavar='N',
                        help='sum up what is nested deeper than N blocks')
    parser.add_argument('--precision', choices=sorted(PRECISIONS),
                        help='number format for the memory totals (default: float32)')
    parser.add_argument('--format', choices=_FORMATS,
                        help='form of the answer (default: text)')
    other = parser.add_mutually_exclusive_group()
    other.add_argument('--list', nargs='?', const='*', metavar='PATTERN',
                       help="list networks, as in 'res*'; timm's with 'timm/*'")
    other.add_argument('--compare', nargs='+', metavar='NETWORK',
                       help='compare networks: accuracy, parameters, multiply-adds, latency')
    comparing = parser.add_argument_group('with --compare')
    comparing.add_argument('--out', type=Path, metavar='PNG',
                           help='file of the chart (default: comparison.png)')
    comparing.add_argument('--no-latency', action='store_true', help='measure nothing')
    comparing.add_argument('--rounds', type=int, metavar='N',
                           help='timed runs of each network (default: 10)')
    comparing.add_argument('--weights', choices=WEIGHTS,
                           help="whose accuracy: torchvision's first weights of a network, whose "
                           'recipes are alike, or its best (default: first)')
    return parser


def _answer(options: argparse.Namespace, parser: argparse.ArgumentParser) -> str:
    if options.network is not None and (options.list or options.compare):
        parser.error('give a network, --list or --compare, only one of them')
    asked = '--list' if options.list is not None else _COMPARE if options.compare else _TABLE
    for option, places in BELONGS.items():
        given = getattr(options, option)
        if given is not None and given is not False and asked not in places:
            parser.error(f'--{option.replace("_", "-")} belongs to {" and ".join(places)}')
    if options.list is not None:
        found = names(options.list)
        if not found:
            hint = '' if '*' in options.list else f"'*{options.list}*', "
            raise ArchitectureError(f"no network matches {options.list!r}: try {hint}'*' or "
                                    "'timm/*', with the wildcards * ? [...]; names are small "
                                    'letters')
        return ''.join(f'{name}\n' for name in found)
    if options.compare:
        return _comparison(options)
    if options.network is None:
        parser.error('which network? Give a name, or --list')
    shape = _shape(options.input) if options.input is not None else None
    table = describe(options.network, shape, options.depth, options.precision or 'float32')
    return _formatted(table, options.format)


def _comparison(options: argparse.Namespace) -> str:
    out = options.out or Path('comparison.png')
    if not out.absolute().parent.is_dir() or out.suffix.lower() != '.png':
        raise ArchitectureError(f'--out: got {out}, expected a .png file in a folder that exists')
    rounds = 10 if options.rounds is None else options.rounds
    comparison = compare(options.compare, not options.no_latency, rounds,
                         options.weights or 'first')
    if all(row.accuracy is None for row in comparison.networks):
        print('no chart: none of these networks has a published accuracy', file=sys.stderr)
        return _formatted(comparison, options.format)
    # Imported late: no other command needs matplotlib.
    from cnn_perception.architectures.chart import draw_chart
    left_out = draw_chart(comparison, out)
    without = f' (without {", ".join(left_out)}: no published accuracy)' if left_out else ''
    print(f'chart: {out}{without}', file=sys.stderr)
    return _formatted(comparison, options.format)


def _formatted(result: object, form: str | None) -> str:
    text: str = getattr(result, f'to_{form or "text"}')()
    return text if text.endswith('\n') else text + '\n'


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.lower().split('x')
    if len(sizes) != 3 or not all(re.fullmatch(r'\s*\d{1,9}\s*', size) for size in sizes):
        raise ArchitectureError(f'--input: got {text!r}, expected channels, height and width as '
                                'in 3x480x640')
    return tuple(int(size) for size in sizes)


if __name__ == '__main__':
    sys.exit(main())
