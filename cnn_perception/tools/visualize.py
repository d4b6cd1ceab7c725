"""
`visualize`: pictures of what a network does with one image, as PNG files, without ROS.

    visualize --image cat.png --architecture vgg16 --layers 'features.*' --out folder
    visualize --image coffee --layers auto
    visualize --architecture resnet18 --weights none --list

Writes overlay.png, cam.png, filters.png, edges.png, dashboard.png and layer_NAME.png for each
layer, through the code that the node publishes with.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
import re
import sys
import time
from typing import Any

from cnn_perception import photographs, render
from cnn_perception.answer_pictures import activation_picture, answer_picture
from cnn_perception.architectures.errors import shape_text
from cnn_perception.classifier import Classifier
from cnn_perception.explain import first_convolution, GradCam, NetworkLayers, resolve_layers
from cnn_perception.labels import find_class
from cnn_perception.sources import read_picture
from cnn_perception.tools.folders import check_folder
import cv2
import numpy as np

__all__ = ['main']


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line; argv without the program's name, None for the process's own.

    Returns 0, or 2 after saying on standard error in one line what is wrong.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        if not options.list and options.image is None:
            raise ValueError('which image? Give --image FILE or --image '
                             f'{"|".join(photographs.NAMES)}')
        frame = None if options.list else _image(options.image)
        if frame is not None:
            check_folder(options.out)
        classifier = Classifier(
            options.architecture, options.weights, options.device, label_file=options.label_file,
            input_size=options.input_size, mean=options.mean, std=options.std)
        layers = NetworkLayers(classifier)
        if frame is None:
            sys.stdout.write(_listed(layers))
        else:
            _visualize(frame, classifier, layers, options)
    except (ValueError, OSError) as error:
        print(f'visualize: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='visualize', description='Pictures of what a network does with an image.')
    parser.add_argument('--image', metavar='FILE',
                        help=f'a picture file, or one of {", ".join(photographs.NAMES)}')
    parser.add_argument('--architecture', default='efficientnet_lite0', metavar='NAME',
                        help='see describe --list (default: %(default)s)')
    parser.add_argument('--weights', default='default', metavar='WEIGHTS',
                        help="default, a torchvision weights name, a file, or 'none' for random "
                        'values (default: %(default)s)')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N')
    own = parser.add_argument_group('weights of your own, as the parameters of the node')
    own.add_argument('--label-file', default='', metavar='FILE',
                     help='class names: .txt, .json or .yaml')
    own.add_argument('--input-size', nargs=2, type=int, default=(), metavar=('HEIGHT', 'WIDTH'))
    own.add_argument('--mean', nargs='+', type=float, default=(), metavar='VALUE',
                     help='of each channel, for values from 0 to 1')
    own.add_argument('--std', nargs='+', type=float, default=(), metavar='VALUE')
    parser.add_argument('--layers', nargs='+', default=['auto'], metavar='LAYER',
                        help="names, wildcards ('layer*.relu') or auto (default: auto)")
    parser.add_argument('--list', action='store_true', help='list the layers with their shapes')
    parser.add_argument('--out', type=Path, default=Path('visualize_output'), metavar='FOLDER',
                        help='folder of the PNG files (default: %(default)s)')
    maps = parser.add_argument_group('activation maps')
    maps.add_argument('--channels', nargs='+', default=['first'], metavar='CHANNEL',
                      help="'first', 'strongest' or channel numbers (default: first)")
    maps.add_argument('--count', type=int, default=64, metavar='N',
                      help='maps of a layer at most (default: %(default)s)')
    maps.add_argument('--normalize', nargs='+', default=['map'], metavar='RANGE',
                      help="'map', 'layer' or two numbers, the range of the colours")
    maps.add_argument('--colormap', default='viridis', help='of OpenCV, or grey')
    maps.add_argument('--scale', type=int, default=0, metavar='N',
                      help='whole zoom of the maps, 0 for automatic')
    maps.add_argument('--no-labels', dest='labels', action='store_false',
                      help='leave the channel numbers out')
    cam = parser.add_argument_group('class activation map')
    cam.add_argument('--class', dest='cam_class', metavar='CLASS',
                     help='name or number of the class (default: the best)')
    cam.add_argument('--cam-layer', metavar='LAYER',
                     help='layer it is computed at (default: the last with rows and columns)')
    return parser


def _image(image: str) -> np.ndarray:
    if image in photographs.NAMES and not Path(image).exists():
        return photographs.photograph(image)
    if not Path(image).is_file():
        raise ValueError(f"--image: got '{image}', expected a picture file or one of "
                         f'{", ".join(photographs.NAMES)}')
    return read_picture(Path(image))


def _listed(layers: NetworkLayers) -> str:
    width = max(len(name) for name in layers.shapes)
    return ''.join(f'{name:{width}}  {shape_text(shape)}\n'
                   for name, shape in layers.shapes.items())


def _visualize(frame: np.ndarray, classifier: Classifier, layers: NetworkLayers,
               options: argparse.Namespace) -> None:
    names = resolve_layers(options.layers, layers.names, layers.shapes)
    cam: GradCam | None = None
    try:
        cam = GradCam(layers, options.cam_layer)
    except ValueError as error:
        # Asked for by name it is a mistake; a network that has none shows everything else.
        if options.cam_layer:
            raise
        print(f'no cam.png: {error}', file=sys.stderr)
    index = _class_index(options.cam_class, classifier.labels)
    taps = tuple(dict.fromkeys([*names, *(cam.taps_for(index) if cam else ())]))
    classifier.warm_up()
    start = time.perf_counter()
    classifier.predict([frame])
    latency = time.perf_counter() - start
    [prediction] = classifier.predict([frame], taps)

    pictures: dict[str, np.ndarray] = {}
    network = classifier.network

    def upper(rgb: np.ndarray) -> dict[str, np.ndarray]:
        drawn = {'overlay': answer_picture(rgb, prediction, network, latency)}
        if cam is not None:
            drawn['cam'] = activation_picture(rgb, prediction, network, cam, index)
        return drawn
    pictures.update(upper(render.legible(frame)))
    found = first_convolution(network.module)
    if found is not None:
        pictures['filters'] = render.filters(found[1], caption=found[0])
    pictures['edges'] = render.edges(frame)
    channels = _channels(options.channels)
    drawing = {'normalize': _range(options.normalize), 'colormap': options.colormap}
    mosaics = _mosaics({name: prediction.activations[name] for name in names}, channels, drawing,
                       options)
    small = [render.mosaic(prediction.activations[name], caption=name, labels=False,
                           largest=render.MOSAIC_SIZE,
                           count=min(options.count, render.MOSAIC_COUNT),
                           **drawing, channels=render.present(
                               channels, prediction.activations[name].shape))
             for name in list(mosaics)[:3]]
    above = upper(render.for_dashboard(frame))
    pictures['dashboard'] = render.dashboard(above['overlay'], above.get('cam'), small, [latency])
    for name, mosaic in mosaics.items():
        pictures[f'layer_{re.sub("[^A-Za-z0-9_.-]", "_", name)}'] = mosaic
    _write(pictures, options.out)


def _mosaics(activations: Mapping[str, np.ndarray], channels: str | Sequence[int],
             drawing: Mapping[str, Any], options: argparse.Namespace) -> dict[str, np.ndarray]:
    """Draw the layers that can be drawn, and say which cannot; ValueError where none can."""
    mosaics: dict[str, np.ndarray] = {}
    problems: dict[str, ValueError] = {}
    for name, activation in activations.items():
        shown = render.present(channels, activation.shape)
        if shown not in (channels, 'first'):
            print(f'{name} has {len(activation)} channels: not all of --channels',
                  file=sys.stderr)
        try:
            mosaics[name] = render.mosaic(
                activation, caption=name, count=options.count, scale=options.scale,
                labels=options.labels, **drawing, channels=shown)
        except ValueError as error:
            problems[name] = error
    if problems and not mosaics:
        raise next(iter(problems.values()))
    for name, problem in problems.items():
        print(f'no picture of {name}: {problem}', file=sys.stderr)
    return mosaics


def _class_index(wanted: str | None, labels: Sequence[str]) -> int | None:
    """Find a class by number or name; None, which is the best one, if none is asked for."""
    if wanted is None:
        return None
    try:
        return find_class(wanted, labels)
    except ValueError as error:
        raise ValueError(f'--class: {error}') from error


def _channels(words: Sequence[str]) -> str | tuple[int, ...]:
    words = ' '.join(words).replace(',', ' ').split()
    if len(words) == 1 and not words[0].isdecimal():
        return words[0]
    if not all(word.isdecimal() for word in words):
        raise ValueError(f"--channels: got '{' '.join(words)}', expected 'first', 'strongest' or "
                         'channel numbers')
    return tuple(dict.fromkeys(int(word) for word in words))


def _range(words: Sequence[str]) -> str | tuple[float, float]:
    if len(words) == 1:
        return words[0]
    try:
        low, high = (float(word) for word in words)
    except ValueError as error:
        raise ValueError(f"--normalize: got '{' '.join(words)}', expected 'map', 'layer' or two "
                         'numbers') from error
    return low, high


def _write(pictures: dict[str, np.ndarray], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        path = folder / f'{name}.png'
        encoded, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise ValueError(f'{path} could not be encoded as PNG')
        path.write_bytes(data.tobytes())
        print(f'{path}  {picture.shape[1]} x {picture.shape[0]}')


if __name__ == '__main__':
    sys.exit(main())
