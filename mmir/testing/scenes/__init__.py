"""Synthetic scenes: labeled RGB and thermal images, rendered from a seed.

Street scenes seen by a visible and a thermal camera (`render_scene`, `write_flir`) and
small flying targets (`render_flight`, `write_drones`), for demos and tests, since real
infrared data cannot be shipped. Results on them say nothing about real data.
"""

from .disk import write_drones, write_flir
from .drones import TARGETS, Flight, render_flight
from .scene import CLASSES, SEMANTIC, Scene, SceneObject, render_scene

__all__ = [
    'CLASSES',
    'SEMANTIC',
    'TARGETS',
    'Flight',
    'Scene',
    'SceneObject',
    'render_flight',
    'render_scene',
    'write_drones',
    'write_flir',
]
