"""
Why a network answers as it does: its layers, class activation maps, and what excites a channel.

`NetworkLayers` knows the layers of a network and their shapes, `resolve_layers` turns what a user
writes into their names, `GradCam` computes class activation maps through the head only and
`TopPatches` remembers the parts of pictures that excited a channel most. Layer names are those
that `Classifier.predict` takes as taps.
"""

from .fields import field_of, field_table
from .grad_cam import GradCam
from .names import is_spatial, maps_of, resolve_layers
from .network_layers import first_convolution, NetworkLayers
from .top_patches import TopPatches

__all__ = [
    'GradCam', 'NetworkLayers', 'TopPatches', 'field_of', 'field_table', 'first_convolution',
    'is_spatial', 'maps_of', 'resolve_layers',
]
