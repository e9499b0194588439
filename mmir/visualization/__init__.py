"""Visualization of data and results, independent of any host."""

from mmir.visualization.curves import save_curves
from mmir.visualization.detections import Panel, save_detection_grid
from mmir.visualization.paired_hook import PairedVisualizationHook

__all__ = [
    'PairedVisualizationHook',
    'Panel',
    'save_curves',
    'save_detection_grid',
]
