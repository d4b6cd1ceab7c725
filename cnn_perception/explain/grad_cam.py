"""
Class activation maps: which places of the picture speak for a class.

Grad-CAM, Selvaraju et al. 2017 (arXiv:1610.02391), equation 1 and 2: the maps A of a layer are
weighted by the mean gradient of the class's logit, added up, and what speaks against the class is
cut off. With global average pooling and one linear layer behind it is CAM, Zhou et al. 2016
(arXiv:1512.04150).

The gradient stops at the layer, so only what follows it has to be run with a gradient, on the
activation that the forward pass gave anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cnn_perception.classifier import Classifier
import numpy as np
import torch
from torch import nn

from .head import find_layer, split
from .names import resolve_layers
from .network_layers import NetworkLayers

__all__ = ['GradCam']

Activation = np.ndarray | torch.Tensor


class GradCam:
    """
    Computes class activation maps at one layer of a network.

    network: a `Classifier`, a module that can be traced, or the `NetworkLayers` of one. layer: a
    layer name, empty or None for the last one with rows and columns, which is the cheapest.
    Raises ValueError for an unknown layer, one without rows and columns, and for a network that
    has none, as a vision transformer or a linear classifier.

    `Classifier.predict(frames, taps=cam.taps)` gives the activations that `map` needs.
    """

    def __init__(self, network: Classifier | nn.Module | NetworkLayers, layer: str | None = None
                 ) -> None:
        """Find the layer and cut the network behind it."""
        layers = network if isinstance(network, NetworkLayers) else NetworkLayers(network)
        self.layer = (resolve_layers([layer], layers.names, layers.shapes)[0] if layer
                      else find_layer(layers))
        self.shape = layers.shapes[self.layer]
        if len(self.shape) != 3:
            size = ' x '.join(str(extent) for extent in self.shape)
            raise ValueError(f"layer '{self.layer}' is {size}, without rows and columns: a class "
                             'activation map needs channels x height x width')
        head = split(layers, self.layer)
        self._head = head.module.requires_grad_(False)
        self._device = layers.device
        self.taps = head.taps
        """Layers to tap: `layer`, and with it those whose values go around it (mostly none)."""

    def map(self, activation: Activation | Mapping[str, Activation], index: int) -> np.ndarray:
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

    def maps(self, activations: Activation | Mapping[str, Activation], indices: Sequence[int]
             ) -> np.ndarray:
        """
        Compute the maps of a batch: activations (N, C, h, w), one class for each picture.

        Returns (N, h, w) float32 in [0, 1]. Otherwise as `map`.
        """
        given = activations if isinstance(activations, Mapping) else {self.layer: activations}
        missing = [name for name in self.taps if name not in given]
        if missing:
            raise ValueError(f"the activation of {', '.join(missing)} is missing: tap all of "
                             f"GradCam.taps ({', '.join(self.taps)}) and give the mapping")
        # A clone made outside of inference mode is an ordinary tensor that can have a gradient.
        with torch.inference_mode(False), torch.enable_grad():
            tensors = [self._tensor(given[name]) for name in self.taps]
            maps = tensors[0].requires_grad_(True)
            if tuple(maps.shape[1:]) != self.shape or len(maps) != len(indices):
                raise ValueError(f"activation of '{self.layer}' is {tuple(maps.shape)}, expected "
                                 f'{(len(indices), *self.shape)}: one for each class index')
            # In-place operations are not allowed on a leaf, so the head gets a copy of it.
            logits = self._head(maps.clone(), *tensors[1:])
            wrong = [index for index in indices if not 0 <= index < logits.shape[1]]
            if wrong:
                raise ValueError(f'there is no class {wrong[0]}: the network has '
                                 f'{logits.shape[1]}, expected 0 to {logits.shape[1] - 1}')
            rows = torch.arange(len(indices), device=logits.device)
            chosen = torch.as_tensor(list(indices), device=logits.device)
            gradient, = torch.autograd.grad(logits[rows, chosen].sum(), maps)
        return weighted(maps.detach(), gradient)

    def _tensor(self, values: Activation) -> torch.Tensor:
        tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
        return tensor.detach().to(self._device, torch.float32, copy=True)


def weighted(maps: torch.Tensor, gradient: torch.Tensor) -> np.ndarray:
    """Weigh maps (N, C, h, w) by the mean gradient of each: (N, h, w) float32 in [0, 1]."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weights * maps).sum(dim=1).relu().nan_to_num(nan=0.0)
    highest = heat.amax(dim=(1, 2), keepdim=True)
    return (heat / highest.where(highest > 0, torch.ones_like(highest))).cpu().numpy()
