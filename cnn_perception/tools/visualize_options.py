"""The options of `visualize`, which takes the node's own words for what both can draw."""

from __future__ import annotations

import argparse
from pathlib import Path

from cnn_perception import photographs
from cnn_perception.render.map_options import (
    MapOptions, read_channels, read_colormap, read_normalize)
from cnn_perception.render.mosaic import MOST

__all__ = ['parser', 'read_maps']


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    found = argparse.ArgumentParser(
        prog='visualize', description='Pictures of what a network does with an image.')
    found.add_argument('--image', metavar='FILE', action='append',
                       help=f'a picture file, or one of {", ".join(photographs.NAMES)}')
    found.add_argument('--architecture', default='efficientnet_lite0', metavar='NAME',
                       help='see describe --list (default: %(default)s)')
    found.add_argument('--weights', default='default', metavar='WEIGHTS',
                       help="default, a torchvision weights name, a file, or 'none' for random "
                       'values (default: %(default)s)')
    found.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    own = found.add_argument_group('weights of your own, as the parameters of the node')
    own.add_argument('--labels', '--label-file', dest='label_file', default='', metavar='FILE',
                     help='class names: .txt, .json or .yaml')
    own.add_argument('--input-size', nargs=2, type=int, default=(), metavar=('HEIGHT', 'WIDTH'))
    own.add_argument('--mean', nargs='+', type=float, default=(), metavar='VALUE',
                     help='of each channel, for values from 0 to 1')
    own.add_argument('--std', nargs='+', type=float, default=(), metavar='VALUE')
    found.add_argument('--layers', nargs='+', default=['auto'], metavar='LAYER',
                       help="names, blocks (layer3), wildcards ('layer*.relu') or auto (default: "
                       'auto)')
    found.add_argument('--list', action='store_true', help='list the layers with their shapes')
    found.add_argument('--out', type=Path, default=Path('visualize_output'), metavar='FOLDER',
                       help='folder of the PNG files (default: %(default)s)')
    maps = found.add_argument_group('activation maps')
    maps.add_argument('--channels', nargs='+', default=['first'], metavar='CHANNEL',
                      help="'first', 'strongest', with a number such as 'first 9', or channel "
                      'numbers (default: first)')
    maps.add_argument('--count', type=int, default=64, metavar='N',
                      help='maps of a layer at most (default: %(default)s)')
    maps.add_argument('--normalize', nargs='+', default=['map'], metavar='RANGE',
                      help="'map', 'layer' or two numbers, the range of the colours")
    maps.add_argument('--colormap', default='viridis', help='of OpenCV, or grey')
    maps.add_argument('--scale', type=int, default=0, metavar='N',
                      help='whole zoom of the maps, 0 for automatic')
    maps.add_argument('--no-labels', dest='numbers', action='store_false',
                      help='leave the channel numbers out')
    cam = found.add_argument_group('class activation map')
    cam.add_argument('--class', dest='cam_class', metavar='CLASS',
                     help='name or number of the class (default: the best)')
    cam.add_argument('--cam-layer', metavar='LAYER',
                     help='layer it is computed at (default: the last with rows and columns)')
    return found


def read_maps(options: argparse.Namespace) -> MapOptions:
    """Read how layers are drawn; ValueError names the option that is wrong and what it takes."""
    if not 1 <= options.count <= MOST:
        raise ValueError(f'--count is {options.count}, expected from 1 to {MOST}')
    if options.scale < 0:
        raise ValueError(f'--scale is {options.scale}, expected a whole number, 0 for automatic')
    channels, count = read_channels('--channels', ' '.join(options.channels), usual=options.count)
    return MapOptions(
        channels, count, read_normalize('--normalize', ' '.join(options.normalize)),
        read_colormap('--colormap', options.colormap), options.scale, options.numbers)
