"""One row of the layer table."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ArchitectureError

__all__ = ['LayerRow', 'Pair']

Pair = tuple[int, int]


@dataclass(frozen=True)
class LayerRow:
    """
    What one layer, or one block of layers, is, costs and sees.

    Pairs are (height, width). name: path of the module, as in `named_modules`; from its second run
    on, _1, _2 follow, as torchvision's feature extraction names them; numbers whose name another
    module has are skipped. kind: class of the module; '(own)' behind it marks what a block
    does beside its layers, 'unused' what inference never runs. kernel, stride, dilation, padding
    ((top, bottom), (left, right)): of a convolution or pooling, in pixels of the layer's input, of
    its output where it is transposed; a 1-D one is one row high. fits: whether the kernel's
    positions tile that input with its padding exactly; None where no 2-D kernel slides along it.
    output_shape: without the batch. parameters, multiply_adds: for one image. Shares: of the
    network's, 0 to 1. activations: numbers of outputs that need memory of their own.

    receptive_field: size of the field in the image's pixels, padding included; the image's own
    size where whole_input says that everything is seen; None where it was not followed. jump:
    image pixels from one output to the next. offset: centre of the field of output (0, 0), 0.0
    being the centre of the image's first pixel. Both are None once rows and columns are merged.
    """

    name: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    padding: tuple[Pair, Pair] | None
    dilation: Pair | None
    fits: bool | None
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    parameters_share: float
    multiply_adds_share: float
    activations: int
    receptive_field: Pair | None
    whole_input: bool
    jump: Pair | None
    offset: tuple[float, float] | None
    runs: bool = True

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """
        Return what output (row, column) sees: (top, left, height, width) in image pixels.

        The box may reach beyond the image, where padding is seen. Raises ArchitectureError for a
        layer without rows and columns or without a limited receptive field.
        """
        if (self.receptive_field is None or self.jump is None or self.offset is None
                or self.whole_input):
            raise ArchitectureError(f'{self.name} has no box in the image: got a layer that sees '
                                    'all of it, or that no window describes, expected a '
                                    'convolution or pooling layer before those')
        top, left = (int(self.offset[axis] - (self.receptive_field[axis] - 1) / 2)
                     + self.jump[axis] * (row, column)[axis] for axis in (0, 1))
        return top, left, *self.receptive_field
