# The detection runtime with the visualizer of classification.
_base_ = './det.py'

default_scope = 'mmpretrain'
default_hooks = dict(visualization=dict(type='mmpretrain.VisualizationHook'))
visualizer = dict(type='UniversalVisualizer')
