"""Pictures of results, free of any host."""

from mmir.visualization.curves import save_curves
from mmir.visualization.detections import Panel, save_detection_grid

__all__ = ['Panel', 'save_curves', 'save_detection_grid']
