# YOLOv5m: 20.9 M parameters with three classes.
_base_ = './yolov5_n.py'  # losses, anchors and test settings are those of N

model = dict(
    backbone=dict(arch='m'),
    neck=dict(arch='m'),
    bbox_head=dict(head_module=dict(in_channels=(192, 384, 768))),
)
