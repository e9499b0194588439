# Halfway fusion: two backbones, the mean of their feature maps.
_base_ = [
    '../_base_/models/yolov7_tiny_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adam_200e.py',
    '../_base_/runtime/det.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmir.TwoStreamBackbone',
        backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
        channels=dict(rgb=3, ir=3),
        fuse='add',
    )
)
demo = dict(data='street', modality='ir')  # data rendered by `--demo`
