"""
Blocks with more than one path: residual and inception, for the networks written in YAML.

Every activation is its own module, computed out of place, so that each can be tapped by name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

__all__ = ['ACTIVATIONS', 'GlobalAveragePool', 'Inception', 'Residual', 'convolution']

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    'relu': nn.ReLU, 'tanh': nn.Tanh, 'sigmoid': nn.Sigmoid}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, batchnorm: bool = True,
                activation: str | None = 'relu') -> nn.Sequential:
    """
    Build a square convolution that keeps H and W at stride 1, with what follows it.

    (N, inputs, H, W) float32 becomes (N, outputs, ceil(H / stride), ceil(W / stride)) for odd
    kernels. A convolution before a batch normalisation has no bias, as the normalisation would
    subtract it.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=nn.Conv2d(
        inputs, outputs, kernel, stride, padding=kernel // 2, bias=not batchnorm))
    if batchnorm:
        parts['bn'] = nn.BatchNorm2d(outputs)
    if activation is not None:
        parts[activation] = ACTIVATIONS[activation]()
    return nn.Sequential(parts)


class GlobalAveragePool(nn.Module):
    """The mean of each channel (Lin et al. 2014): (N, C, H, W) float32 becomes (N, C)."""

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the means over rows and columns."""
        return activation.mean(dim=(2, 3))


class Residual(nn.Module):
    """
    A residual block: the sum of a few convolutions and of their input (He et al. 2016).

    (N, inputs, H, W) float32 becomes (N, outputs, ceil(H / stride), ceil(W / stride)). Basic: two
    3x3 convolutions. Bottleneck: 1x1 to a quarter of the outputs, 3x3, 1x1 back. The shortcut is
    the input itself or, where the shape changes, a 1x1 convolution (option B of the paper).
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, bottleneck: bool = False,
                 batchnorm: bool = True, activation: str = 'relu') -> None:
        """Take channels, stride and which of the paper's two blocks to build."""
        super().__init__()
        if bottleneck:
            inner = max(outputs // 4, 1)
            self.path = nn.Sequential(
                convolution(inputs, inner, 1, 1, batchnorm, activation),
                convolution(inner, inner, 3, stride, batchnorm, activation),
                convolution(inner, outputs, 1, 1, batchnorm, None))
        else:
            self.path = nn.Sequential(
                convolution(inputs, outputs, 3, stride, batchnorm, activation),
                convolution(outputs, outputs, 3, 1, batchnorm, None))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = convolution(inputs, outputs, 1, stride, batchnorm, None)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Return activation(path(x) + shortcut(x))."""
        return self.activation(self.path(activation) + self.shortcut(activation))


class Inception(nn.Module):
    """
    An inception block: 1x1, 3x3, 5x5 and pooling side by side (Szegedy et al. 2015, figure 2b).

    (N, inputs, H, W) float32 becomes (N, C, H, W), C being the sum over the four branches. A pair
    (reduced, outputs) is a 1x1 convolution followed by the larger one; any branch may be absent.
    """

    def __init__(self, inputs: int, one: int | None = None, three: tuple[int, int] | None = None,
                 five: tuple[int, int] | None = None, pool: int | None = None,
                 batchnorm: bool = False, activation: str = 'relu') -> None:
        """Take the channels of each branch; `pool` are those of the 1x1 behind the pooling."""
        super().__init__()
        branches: OrderedDict[str, nn.Module] = OrderedDict()
        if one is not None:
            branches['branch1x1'] = convolution(inputs, one, 1, 1, batchnorm, activation)
        for size, channels in ((3, three), (5, five)):
            if channels is not None:
                branches[f'branch{size}x{size}'] = nn.Sequential(OrderedDict(
                    reduce=convolution(inputs, channels[0], 1, 1, batchnorm, activation),
                    expand=convolution(channels[0], channels[1], size, 1, batchnorm, activation)))
        if pool is not None:
            branches['branch_pool'] = nn.Sequential(OrderedDict(
                pool=nn.MaxPool2d(3, stride=1, padding=1),
                project=convolution(inputs, pool, 1, 1, batchnorm, activation)))
        self.branches = nn.ModuleDict(branches)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Return the branches' outputs, stacked along the channels."""
        return torch.cat([branch(activation) for branch in self.branches.values()], dim=1)
