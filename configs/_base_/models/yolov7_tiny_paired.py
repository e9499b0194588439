# YOLOv7-tiny (6.0 M parameters with three classes) with a paired data preprocessor.
_base_ = './yolov7_l.py'  # test settings are those of L

model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type='mmir.PairedDetDataPreprocessor',
        modalities=dict(
            rgb=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=True),
            ir=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]),
        ),
        absent_value=114 / 255,  # a missing image looks like the padding
        pad_size_divisor=32,
        pad_value=114 / 255,
    ),
    backbone=dict(arch='tiny'),
    neck=dict(arch='tiny'),
    bbox_head=dict(
        head_module=dict(in_channels=(128, 256, 512)),
        obj_weight=1.0,  # at 640 px
        cls_weight=0.5,
    ),
)
