# YOLOv7-X: 70.8 M parameters with three classes.
_base_ = './yolov7_l.py'  # losses and test settings are those of L

model = dict(
    backbone=dict(arch='x'),
    neck=dict(arch='x'),
    bbox_head=dict(head_module=dict(in_channels=(320, 640, 1280))),
)
