"""
Class activation maps: which places of the picture speak for a class.

Grad-CAM, Selvaraju et al. 2017 (arXiv:1610.02391), equation 1 and 2: the maps A of a layer are
weighted by the mean gradient of the class's logit, added up, and what speaks against the class is
cut off. With global average pooling and one linear layer behind it is CAM, Zhou et al. 2016
(arXiv:1512.04150), whose weights do not depend on the picture and are computed once.

The gradient stops at the layer, so only what follows it has to be run with a gradient, on the
activation that the forward pass gave anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import contextlib

from cnn_perception.architectures.errors import shape_text
from cnn_perception.classifier import Classifier, Prediction
from cnn_perception.processor import one_torch_thread
from cnn_perception.resample import as_tensor
from cnn_perception.turns import TRACING
import numpy as np
import torch
from torch import nn

from .activation_output import ActivationOutput, is_worthwhile
from .dense_head import DenseHead
from .dense_products import native, tensor_of, Values
from .head import find_layer, split
from .heat import as_array, scaled, weighted
from .names import is_spatial, resolve_layers
from .network_layers import NetworkLayers

__all__ = ['GradCam']

# Classes whose weights are kept, where they are the same for every picture.
KEPT = 256


class GradCam:
    """
    Computes class activation maps at one layer of a network.

    network: a `Classifier`, a module that can be traced, or the `NetworkLayers` of one. layer: a
    layer name, empty or None for the last one with rows and columns, which is the cheapest.
    Raises ValueError for an unknown layer, one without rows and columns, and for a network that
    has none, as a vision transformer or a linear classifier. The network's weights must not change
    afterwards.

    `Classifier.predict(frames, taps=cam.taps)` gives the activations that `map` needs, for any
    class. With a classifier, `cam.taps_for(index)` and `cam.explain(prediction, index)` do with
    less where the network itself can compute the map of one class, or of the best one.
    """

    def __init__(self, network: Classifier | nn.Module | NetworkLayers, layer: str | None = None
                 ) -> None:
        """Find the layer and cut the network behind it."""
        layers = network if isinstance(network, NetworkLayers) else NetworkLayers(network)
        self.layer = (resolve_layers([layer], layers.names, layers.shapes)[0] if layer
                      else find_layer(layers))
        self.shape = layers.shapes[self.layer]
        if not is_spatial(self.shape, layers.input_shape):
            raise ValueError(f"layer '{self.layer}' is {shape_text(self.shape)}, without rows and "
                             'columns in the proportions of the picture: a class activation map '
                             'needs channels x height x width')
        self._head = split(layers, self.layer)
        self._kept: dict[int, np.ndarray] = {}
        self._backend = layers.backend
        self._best = f'{self.layer} for the best class'
        self._device = layers.device
        # A module that a backend keeps in half precision takes nothing else.
        self._kind = next((part.dtype for part in layers.module.parameters()
                           if part.is_floating_point()), torch.float32)
        self._rows = native(self._head.last) if self._head.last is not None else None
        self._in_arrays = self._device.type == 'cpu' and self._kind == torch.float32
        self.taps = self._head.taps
        """
        Layers to tap: `layer`, those whose values go around it (mostly none), and those between
        fully-connected layers, without which these have to be run again.
        """

    def taps_for(self, index: int | None = None) -> tuple[str, ...]:
        """
        Return what to tap for `explain`: for class `index`, None for the best of each picture.

        That of the best class the network itself computes where that is cheaper; of any other it
        gives what the map is computed from, so that another one can be chosen at any time. Raises
        ValueError for an unknown class.
        """
        dense, rows = self._head.dense, self._head.last
        if index is not None:
            if rows is not None:
                check_classes([index], len(rows))
            return self.taps
        if (self._backend is None or dense is None or rows is None
                or not is_worthwhile(dense, self._head.places)):
            return self.taps
        self._backend.add_output(self._best, ActivationOutput(
            self.layer, dense, rows, self._head.places))
        return (self._best,)

    def explains(self, prediction: Prediction, index: int | None = None) -> bool:
        """Tell whether an answer has what `explain` of this class needs."""
        return ((index is None and self._best in prediction.activations)
                or all(tap in prediction.activations for tap in self.taps))

    def explain(self, prediction: Prediction, index: int | None = None) -> np.ndarray:
        """
        Return the map of an answer with the taps `taps_for(index)`, or with `taps`.

        (h, w) float32 in [0, 1], as from `map`.
        """
        if index is None and (own := prediction.activations.get(self._best)) is not None:
            return scaled(own[None])[0]
        return self.map(prediction.activations,
                        int(prediction.scores.argmax()) if index is None else index)

    def map(self, activation: Values | Mapping[str, Values],  # noqa: A003, RUF100
            index: int) -> np.ndarray:
        """
        Compute the map of class `index` for one picture.

        activation: (C, h, w) float32 of `layer`, or {tap: activation} with all of `taps`, as
        `Prediction.activations` has them. Returns (h, w) float32 in [0, 1], 1 the place that
        speaks for the class most; all 0 where none does. Raises ValueError for other shapes and
        unknown classes.
        """
        given = activation if isinstance(activation, Mapping) else {self.layer: activation}
        batch = {name: values[None] for name, values in given.items() if name in self.taps}
        return self.maps(batch, [index])[0]

    def maps(self, activations: Values | Mapping[str, Values], indices: Sequence[int]
             ) -> np.ndarray:
        """
        Compute the maps of a batch: activations (N, C, h, w), one class for each picture.

        Returns (N, h, w) float32 in [0, 1]. Otherwise as `map`.
        """
        given = activations if isinstance(activations, Mapping) else {self.layer: activations}
        needed = (self.layer, *self._head.around)
        missing = [name for name in needed if name not in given]
        if missing:
            raise ValueError(f"the activation of {', '.join(missing)} is missing: tap all of "
                             f"GradCam.taps ({', '.join(self.taps)}) and give the mapping")
        shape = tuple(given[self.layer].shape)
        if shape[1:] != self.shape or shape[0] != len(indices):
            raise ValueError(f"activation of '{self.layer}' is {shape}, expected "
                             f'{(len(indices), *self.shape)}: one for each class index')
        if self._head.affine:
            weights = np.concatenate([self._constant(index) for index in indices])
        else:
            weights = self._weights(given, indices)
        return weighted(as_array(given[self.layer]), weights)

    def _weights(self, given: Mapping[str, Values], indices: Sequence[int]) -> np.ndarray:
        """Return the mean gradient of the classes' logits for each map: (N, C) float32."""
        dense = self._head.dense
        if self._rows is not None:
            check_classes(indices, len(self._rows))
        if self._rows is None or dense is None:
            gradient: Values = self._gradient(given, indices)
        else:
            # Of one a view: picking it out costs beside a small network.
            first = indices[0]
            rows = (self._rows[first:first + 1] if len(indices) == 1
                    else self._rows[[*indices]])
            gradient = self._dense_gradient(dense, rows, given)
        return as_array(gradient) / (self.shape[1] * self.shape[2])

    def _gradient(self, given: Mapping[str, Values], indices: Sequence[int]) -> torch.Tensor:
        """Return (N, C), summed over each map, by running the head with a gradient."""
        with gradients():
            maps, values = self._run(given)
            last = self._head.last
            if last is not None:
                # Only the rows of the classes in question, the others would be for nothing.
                total = (values.flatten(1) * last[list(indices)]).sum()
            else:
                check_classes(indices, values.shape[1])
                total = values[range(len(indices)), list(indices)].sum()
            gradient, = torch.autograd.grad(total, maps)
            return gradient.sum(dim=(2, 3))

    def _dense_gradient(self, dense: DenseHead, behind: Values, given: Mapping[str, Values]
                        ) -> Values:
        """Return (N, C) from the last layer's rows (N, G), where others like it precede it."""
        complete = all(name in given for name in dense.taps)
        known = {name: self._native(given[name]) for name in dense.taps} if complete else {}
        if self._head.places and complete:
            return dense.gradient(behind, known, self._head.places)
        with gradients():
            maps, values = self._run(given)
            behind = tensor_of(dense.gradient(
                behind, known if complete else dense.forward(values.detach())))
            gradient, = torch.autograd.grad(values, maps, behind.reshape(values.shape))
            return gradient.sum(dim=(2, 3))

    def _run(self, given: Mapping[str, Values]) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the head; returns the maps, which have a gradient now, and what came of them."""
        maps, *around = (self._tensor(given[name], copy=True)
                         for name in (self.layer, *self._head.around))
        maps.requires_grad_(True)
        # In-place operations are not allowed on a leaf, so the head gets a copy of it.
        with TRACING.passing():
            return maps, self._head.module(maps.clone(), *around)

    def _constant(self, index: int) -> np.ndarray:
        """Return (1, C) for a head whose gradient is the same for every picture."""
        weights = self._kept.get(index)
        if weights is None:
            weights = self._weights({self.layer: np.zeros((1, *self.shape), np.float32)}, [index])
            if len(self._kept) >= KEPT:
                self._kept.clear()
            self._kept[index] = weights
        return weights

    def _native(self, values: Values) -> Values:
        # Straight to it where nothing is to be done: every call costs beside a small network.
        if isinstance(values, np.ndarray) and self._in_arrays:
            return as_array(values)
        return native(self._tensor(values))

    def _tensor(self, values: Values, *, copy: bool = False) -> torch.Tensor:
        tensor = as_tensor(values) if isinstance(values, np.ndarray) else values.detach()
        tensor = tensor.to(self._device, self._kind)
        # NumPy gives a batch of one no stride, of which torch's batch normalisation made zeros.
        return tensor.clone(memory_format=torch.contiguous_format) if copy else tensor


@contextlib.contextmanager
def gradients() -> Iterator[None]:
    """Let gradients be computed, in whatever mode the caller is, on this thread alone."""
    # Tensors made outside of inference mode are ordinary ones that can have a gradient.
    with one_torch_thread(), torch.inference_mode(False), torch.enable_grad():
        yield


def check_classes(indices: Sequence[int], classes: int) -> None:
    """Raise ValueError for a class that the network does not have."""
    wrong = [index for index in indices if not 0 <= index < classes]
    if wrong:
        raise ValueError(f'there is no class {wrong[0]}: the network has {classes}, expected '
                         f'0 to {classes - 1}')
