# That of detection, with the pictures of segmentation.
_base_ = './det.py'

default_scope = 'mmseg'
default_hooks = dict(visualization=dict(type='SegVisualizationHook'))
visualizer = dict(type='SegLocalVisualizer')
