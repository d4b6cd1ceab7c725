"""The rows about pictures of the network: mosaics of its maps, class activation maps."""

from __future__ import annotations

from functools import partial

from bench_rendering import CAM_TARGET, cam_times, interleaved, MOSAIC_TARGET_MS
from cnn_perception import render
import numpy as np
from rows import Row

__all__ = ['class_activation', 'mosaic']

# Of the default, of one ReLU network, and of those that do the most behind the last convolution.
NETWORKS = ('efficientnet_lite0', 'resnet18', 'mobilenet_v3_small', 'timm/mobilenetv4_conv_small',
            'vgg16', 'alexnet')


def mosaic(rounds: int) -> list[Row]:
    """Measure 64 maps to one picture, with labels and caption."""
    values = np.random.default_rng(0).normal(size=(64, 56, 56)).astype(np.float32)
    times = interleaved({'': partial(render.mosaic, np.maximum(values, 0.0),
                                     caption='layer1.1.relu_1')}, 100 * rounds)
    median = float(np.median(times['']))
    return [Row('64 maps of 56 x 56 to one picture', f'{median:.2f} ms',
                f'at most {MOSAIC_TARGET_MS:.0f} ms', median <= MOSAIC_TARGET_MS)]


def class_activation(rounds: int) -> list[Row]:
    """Compare classifying with and without a class activation map."""
    rows = []
    for name in NETWORKS:
        forward, ratio, what = cam_times(name, 3 * rounds)
        rows.append(Row(f'class activation map and forward over forward, {name} ({what})',
                        f'{ratio:.2f} of {forward:.1f} ms', f'at most {CAM_TARGET:.2f}',
                        ratio <= CAM_TARGET))
    return rows
