# RGB stage of YOLOv7-tiny, from scratch.
_base_ = './yolo_rgb.py'

optim_wrapper = dict(optimizer=dict(lr=1e-3))  # 1e-5 is for a pretrained detector
model = dict(
    backbone=dict(arch='tiny'),
    neck=dict(arch='tiny'),
    bbox_head=dict(
        head_module=dict(arch='tiny'),
        obj_weight=1.0,  # at 640 px
        cls_weight=0.5,
    ),
)
