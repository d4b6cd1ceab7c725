"""
The arithmetic of convolution and pooling layers, along one axis at a time.

Sizes are in pixels of the layer's input. The formulas are those of Dumoulin and Visin, "A guide to
convolution arithmetic for deep learning" (arXiv:1603.07285), and, for receptive fields, of Araujo,
Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['AxisField', 'IDENTITY', 'Window']


@dataclass(frozen=True)
class Window:
    """
    How a kernel slides along one axis.

    kernel, stride and dilation are in input pixels, at least 1; padding_before and padding_after
    count the pixels added at either end. ceil_mode lets the last window of a pooling layer hang
    over the end.
    """

    kernel: int
    stride: int = 1
    padding_before: int = 0
    padding_after: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    @property
    def extent(self) -> int:
        """Input pixels from the kernel's first tap to its last, both included."""
        return self.dilation * (self.kernel - 1) + 1

    def padded(self, size: int) -> int:
        """Return the length of an axis of `size` pixels with its padding."""
        return size + self.padding_before + self.padding_after

    def output_size(self, size: int) -> int:
        """Return how many positions the kernel takes on `size` pixels; 0 where it has no room."""
        room = self.padded(size) - self.extent
        if room < 0:
            return 0
        positions = room // self.stride + 1
        hangs_over = self.ceil_mode and room % self.stride != 0
        # A window that would begin in the padding behind the input is dropped, as in PyTorch.
        if hangs_over and positions * self.stride < size + self.padding_before:
            positions += 1
        return positions

    def fits(self, size: int) -> bool:
        """Tell whether the positions cover the padded input exactly, to its last pixel."""
        room = self.padded(size) - self.extent
        return room >= 0 and room % self.stride == 0


@dataclass(frozen=True)
class AxisField:
    """
    The receptive field of a feature map along one axis, in pixels of the network's input.

    Output position i sees the pixels first + i * jump ... first + i * jump + size - 1; `first` is
    negative where padding is seen. Positions and sizes are whole numbers of pixels.
    """

    size: int = 1
    jump: int = 1
    first: int = 0

    @property
    def centre(self) -> float:
        """Centre of output position 0's field, in pixels; 0.0 is the centre of pixel 0."""
        return self.first + (self.size - 1) / 2

    def through(self, window: Window) -> AxisField:
        """Return the field after a layer with this window."""
        return AxisField(
            size=self.size + (window.extent - 1) * self.jump,
            jump=self.jump * window.stride,
            first=self.first - window.padding_before * self.jump)

    def covers(self, size: int) -> bool:
        """Tell whether output position 0 sees all of an axis of `size` pixels."""
        return self.first <= 0 and self.first + self.size >= size

    def joined(self, other: AxisField) -> AxisField | None:
        """Return the field of a sum of two maps, None where their grids differ."""
        if self.jump != other.jump:
            return None
        first = min(self.first, other.first)
        last = max(self.first + self.size, other.first + other.size)
        return AxisField(last - first, self.jump, first)


IDENTITY = AxisField()
