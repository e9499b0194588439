# YOLOv5x: 86.2 M parameters with three classes.
_base_ = './yolov5_n.py'  # losses, anchors and test settings are those of N

model = dict(
    backbone=dict(arch='x'),
    neck=dict(arch='x'),
    bbox_head=dict(head_module=dict(in_channels=(320, 640, 1280))),
)
