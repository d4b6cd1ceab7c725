"""
`visualize`: pictures of what a network does with one image, as PNG files, without ROS.

    visualize --image cat.png --architecture vgg16 --layers 'features.*' --out folder
    visualize --image coffee --layers auto
    visualize --architecture resnet18 --weights none --list

Prints the best classes and writes overlay.png, cam.png, filters.png, edges.png, dashboard.png
and layer_NAME.png for each layer, through the code that the node publishes with.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
import re
import sys
import time

from cnn_perception import photographs, render
from cnn_perception.answer_pictures import activation_picture, answer_picture
from cnn_perception.architectures.errors import shape_text
from cnn_perception.classifier import Classifier
from cnn_perception.console import write
from cnn_perception.explain import first_convolution, GradCam, NetworkLayers, resolve_layers
from cnn_perception.labels import find_class
from cnn_perception.render import MapOptions
from cnn_perception.sources import read_picture
from cnn_perception.tools.folders import check_folder, make_folder
from cnn_perception.tools.visualize_options import parser, read_maps
import cv2
import numpy as np

__all__ = ['main']

# Of every picture; layers come on top.
FIXED = ('overlay', 'cam', 'filters', 'edges', 'dashboard')
# Classes that are printed.
SHOWN = 5
# Pixels of what is drawn on the image itself, which may come from a camera of a hundred million.
LONGEST = 2560


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command line; argv without the program's name, None for the process's own.

    Returns 0, or 2 after saying on standard error in one line what is wrong.
    """
    options = parser().parse_args(argv)
    try:
        images = options.image or []
        if not options.list and len(images) != 1:
            raise ValueError(f'{"one at a time" if images else "which image"}? Give --image FILE '
                             f'or --image {"|".join(photographs.NAMES)}')
        frame = None if options.list else _image(images[0])
        maps = read_maps(options)
        if frame is not None:
            check_folder(options.out)
        classifier = Classifier(
            options.architecture, options.weights, options.device, label_file=options.label_file,
            input_size=options.input_size, mean=options.mean, std=options.std)
        layers = NetworkLayers(classifier)
        if frame is None:
            write(_listed(layers))
        else:
            _visualize(frame, classifier, layers, maps, options)
    except (ValueError, OSError) as error:
        print(f'visualize: {" ".join(str(error).split())}', file=sys.stderr)
        return 2
    return 0


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
               maps: MapOptions, options: argparse.Namespace) -> None:
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
    pictures.update(upper(render.legible(_smaller(frame))))
    found = first_convolution(network.module)
    if found is not None:
        pictures['filters'] = render.filters(found[1], caption=found[0])
    pictures['edges'] = render.edges(_smaller(frame))
    mosaics = _mosaics({name: prediction.activations[name] for name in names}, maps)
    small = [render.mosaic(activation, caption=name, **maps.on_dashboard(activation.shape))
             for name in list(mosaics)[:3] for activation in [prediction.activations[name]]]
    above = upper(render.for_dashboard(frame))
    pictures['dashboard'] = render.dashboard(above['overlay'], above.get('cam'), small, [latency])
    for name, mosaic in mosaics.items():
        pictures[f'layer_{re.sub("[^A-Za-z0-9_.-]", "_", name)}'] = mosaic
    make_folder(options.out)
    for best in prediction.top(SHOWN):
        print(f'{best.score:.3f}  {best.name}')
    _write(pictures, options.out)


def _smaller(frame: np.ndarray) -> np.ndarray:
    """Shrink a photograph (H, W, 3) that no display shows as it is."""
    zoom = LONGEST / max(frame.shape[:2])
    if zoom >= 1.0:
        return frame
    size = [max(1, round(zoom * side)) for side in (frame.shape[1], frame.shape[0])]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def _mosaics(activations: Mapping[str, np.ndarray], maps: MapOptions) -> dict[str, np.ndarray]:
    """Draw the layers that can be drawn, and say which cannot; ValueError where none can."""
    mosaics: dict[str, np.ndarray] = {}
    problems: dict[str, ValueError] = {}
    for name, activation in activations.items():
        if maps.lacks(activation.shape):
            print(f'{name} has {len(activation)} channels: not all of --channels',
                  file=sys.stderr)
        try:
            mosaics[name] = render.mosaic(
                activation, caption=name, **maps.of_layer(activation.shape))
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


def _write(pictures: dict[str, np.ndarray], folder: Path) -> None:
    older = sorted(path.name for path in folder.glob('*.png') if path.stem not in pictures
                   and (path.stem in FIXED or path.stem.startswith('layer_')))
    for name, picture in pictures.items():
        path = folder / f'{name}.png'
        encoded, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if not encoded:
            raise ValueError(f'{path} could not be encoded as PNG')
        path.write_bytes(data.tobytes())
        print(f'{path}  {picture.shape[1]} x {picture.shape[0]}')
    if older:
        more = f' and {len(older) - 3} more' if len(older) > 3 else ''
        print(f'{folder} also has, of an earlier run: {", ".join(older[:3])}{more}',
              file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
