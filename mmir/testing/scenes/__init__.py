"""x."""
from .scene import CLASSES, SEMANTIC, Scene, SceneObject, render_scene
__all__ = ['CLASSES', 'SEMANTIC', 'Scene', 'SceneObject', 'render_scene']
