# YOLOv5s: 7.0 M parameters with three classes.
_base_ = './yolov5_n.py'  # losses, anchors and test settings are those of N

model = dict(
    backbone=dict(arch='s'),
    neck=dict(arch='s'),
    bbox_head=dict(head_module=dict(in_channels=(128, 256, 512))),
)
