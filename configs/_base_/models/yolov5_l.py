# YOLOv5l: 46.1 M parameters with three classes.
_base_ = './yolov5_n.py'  # losses, anchors and test settings are those of N

model = dict(
    backbone=dict(arch='l'),
    neck=dict(arch='l'),
    bbox_head=dict(head_module=dict(in_channels=(256, 512, 1024))),
)
