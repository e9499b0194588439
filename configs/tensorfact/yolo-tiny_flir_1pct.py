# Infrared stage of YOLOv7-tiny.
_base_ = './yolo_flir_1pct.py'

load_from = 'work_dirs/yolo-tiny_rgb/epoch_200.pth'
model = dict(
    backbone=dict(arch='tiny'),
    neck=dict(arch='tiny'),
    bbox_head=dict(
        head_module=dict(in_channels=(128, 256, 512)),
        obj_weight=1.0,  # at 640 px
        cls_weight=0.5,
    ),
)
