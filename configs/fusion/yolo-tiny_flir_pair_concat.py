# Halfway fusion: two backbones, their feature maps concatenated and mixed.
_base_ = './yolo-tiny_flir_pair_add.py'

model = dict(backbone=dict(fuse='concat'))
