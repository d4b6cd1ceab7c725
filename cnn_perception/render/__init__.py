"""
Pictures of answers and of what the network does, all (H, W, 3) uint8 RGB.

`overlay` draws an answer, `mosaic` a layer's activation, `filters` a convolution's kernels,
`heatmap_blend` a class activation map, `edges` what filters were before they were learned,
`dashboard` all of it on one picture. Nothing in here runs a network or knows torch.
"""

from .contact_sheet import contact_sheet
from .dashboard import dashboard, for_dashboard, MOSAIC_SIZE
from .edges import EDGE_FILTERS, edge_response, edges
from .filters import filters
from .geometry import input_window, InputWindow
from .heatmap import heatmap_blend
from .map_options import MapOptions
from .mosaic import mosaic
from .overlay import legible, overlay

__all__ = [
    'EDGE_FILTERS', 'InputWindow', 'MOSAIC_SIZE', 'MapOptions', 'contact_sheet', 'dashboard',
    'edge_response', 'edges', 'filters', 'for_dashboard', 'heatmap_blend', 'input_window',
    'legible', 'mosaic', 'overlay',
]
