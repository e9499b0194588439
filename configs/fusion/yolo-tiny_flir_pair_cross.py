# Halfway fusion: two backbones with cross-attention between their feature maps.
_base_ = './yolo-tiny_flir_pair_add.py'

model = dict(backbone=dict(fuse='cross_attention'))
