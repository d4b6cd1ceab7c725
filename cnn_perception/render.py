"""The pictures of `cnn_perception.rendering`, under the name that callers use."""

from __future__ import annotations

from cnn_perception.rendering import (
    colormap_names, contact_sheet, dashboard, edges, filters, for_dashboard, heatmap_blend,
    legible, mosaic, MOSAIC_COUNT, MOSAIC_SIZE, overlay, present, select_channels)

__all__ = [
    'MOSAIC_COUNT', 'MOSAIC_SIZE', 'colormap_names', 'contact_sheet', 'dashboard', 'edges',
    'filters', 'for_dashboard', 'heatmap_blend', 'legible', 'mosaic', 'overlay', 'present',
    'select_channels',
]
