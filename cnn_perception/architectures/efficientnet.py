"""
EfficientNet-Lite0, the network that answers by default.

EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze and excitation, with ReLU6 for
Swish, and with a stem and a head that do not grow: what processors without fast arithmetic for
either run well. Its parts have the names that timm gives them in `tf_efficientnet_lite0`, so that
weight files for that load.
"""

from __future__ import annotations

from collections import OrderedDict
import math
from typing import NamedTuple

import torch
from torch import nn

__all__ = ['BatchNormReLU6', 'EfficientNetLite0', 'SamePadConv2d']

# What the published weights were trained with.
_EPSILON = 0.001
_STEM, _HEAD = 32, 1280


class _Stage(NamedTuple):
    """Blocks of equal width: how many, and of what; only the first has the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Table 1 of the paper, without the stem and the head.
_STAGES = (_Stage(1, 3, 1, 1, 16), _Stage(2, 3, 2, 6, 24), _Stage(2, 5, 2, 6, 40),
           _Stage(3, 3, 2, 6, 80), _Stage(3, 5, 1, 6, 112), _Stage(4, 5, 2, 6, 192),
           _Stage(1, 3, 1, 6, 320))


class SamePadConv2d(nn.Conv2d):
    """
    A convolution that pads as TensorFlow's `SAME` does: more behind than before.

    (N, C, H, W) float32 becomes (N, outputs, ceil(H / stride), ceil(W / stride)).
    """

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the padded map."""
        padding: list[int] = []  # of the columns first, as `pad` has it
        for size, kernel, stride, dilation in zip(
                activation.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1],
                self.dilation[::-1]):
            # A traced size is a tensor, and would make the padding a part of the graph.
            size = int(size)
            reach = (kernel - 1) * dilation + 1
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(activation, padding))


class BatchNormReLU6(nn.BatchNorm2d):
    """Batch normalisation (N, C, H, W) -> (N, C, H, W) and min(max(x, 0), 6) of what it gives."""

    def __init__(self, channels: int) -> None:
        """Take the number of channels."""
        super().__init__(channels, eps=_EPSILON)
        self.act = nn.ReLU6()

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the normalised and clipped activation."""
        return self.act(super().forward(activation))


class SeparableConvolution(nn.Module):
    """A depthwise convolution, an activation and a 1x1 convolution: the first block."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        """Take channels and the size of the depthwise kernel."""
        super().__init__()
        self.conv_dw = _convolution(inputs, inputs, kernel, groups=inputs)
        self.bn1 = BatchNormReLU6(inputs)
        self.conv_pw = _convolution(inputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Turn (N, inputs, H, W) into (N, outputs, H, W)."""
        return self.bn2(self.conv_pw(self.bn1(self.conv_dw(activation))))


class InvertedResidual(nn.Module):
    """
    Wide inside and narrow between (Sandler et al. 2018, arXiv:1801.04381).

    A 1x1 convolution to `expansion` times the channels, a depthwise one, a 1x1 one back; where
    the shape is kept, the input is added to that.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
                 ) -> None:
        """Take channels, size and stride of the depthwise kernel, and the expansion."""
        super().__init__()
        inner = inputs * expansion
        self.adds = stride == 1 and inputs == outputs
        self.conv_pw = _convolution(inputs, inner)
        self.bn1 = BatchNormReLU6(inner)
        self.conv_dw = _convolution(inner, inner, kernel, stride, groups=inner)
        self.bn2 = BatchNormReLU6(inner)
        self.conv_pwl = _convolution(inner, outputs)
        self.bn3 = nn.BatchNorm2d(outputs, eps=_EPSILON)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Turn (N, inputs, H, W) into (N, outputs, ceil(H / stride), ceil(W / stride))."""
        inner = self.bn2(self.conv_dw(self.bn1(self.conv_pw(activation))))
        narrow = self.bn3(self.conv_pwl(inner))
        return narrow + activation if self.adds else narrow


class EfficientNetLite0(nn.Module):
    """The network: (N, 3, H, W) float32 becomes (N, classes) scores before the softmax."""

    input_shape = (3, 224, 224)

    def __init__(self, classes: int = 1000) -> None:
        """Build it, untrained."""
        super().__init__()
        self.conv_stem = _convolution(3, _STEM, 3, 2)
        self.bn1 = BatchNormReLU6(_STEM)
        stages, channels = [], _STEM
        for stage in _STAGES:
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                blocks.append(
                    SeparableConvolution(channels, stage.channels, stage.kernel)
                    if stage.expansion == 1 else InvertedResidual(
                        channels, stage.channels, stage.kernel,
                        1 if index else stage.stride, stage.expansion))
                channels = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, _HEAD)
        self.bn2 = BatchNormReLU6(_HEAD)
        self.global_pool = nn.Sequential(OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(1)))
        self.classifier = nn.Linear(_HEAD, classes)
        self.initialise()

    def initialise(self) -> None:
        """
        Set random values as the authors' code does, by the number of outputs.

        With torch's own, by the number of inputs, signals of depthwise networks die out.
        """
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                reached = math.prod(part.kernel_size) * part.out_channels // part.groups
                nn.init.normal_(part.weight, 0.0, math.sqrt(2.0 / reached))
        bound = 1.0 / math.sqrt(self.classifier.out_features)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Return the scores of pictures, normalised with mean and deviation of 0.5."""
        features = self.blocks(self.bn1(self.conv_stem(picture)))
        return self.classifier(self.global_pool(self.bn2(self.conv_head(features))))


def _convolution(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
                 ) -> nn.Conv2d:
    if stride > 1:  # at stride 1 an odd kernel has as much padding on either side
        return SamePadConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
