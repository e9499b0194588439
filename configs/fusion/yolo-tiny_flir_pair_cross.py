# Halfway fusion: two backbones, each attends to the feature maps of the other.
_base_ = './yolo-tiny_flir_pair_add.py'

model = dict(backbone=dict(fuse='cross_attention'))
