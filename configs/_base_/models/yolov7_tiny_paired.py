# YOLOv7-tiny (6.0 M parameters with three classes) behind a preprocessor of pairs.
num_classes = 3
model = dict(
    type='mmir.YOLOv7',
    data_preprocessor=dict(
        type='mmir.PairedDetDataPreprocessor',
        modalities=dict(
            rgb=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0], bgr_to_rgb=True),
            ir=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]),
        ),
        absent_value=114 / 255,  # a missing image looks like the padding
        pad_size_divisor=32,
        pad_value=114 / 255,
    ),
    backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
    neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
    bbox_head=dict(
        type='mmir.YOLOv7Head',
        head_module=dict(
            type='mmir.YOLOv7HeadModule', arch='tiny', num_classes=num_classes
        ),
        assigner=dict(type='mmir.OTAAssigner'),
        box_weight=0.05,
        obj_weight=1.0,  # at 640 px
        cls_weight=0.5,
    ),
    train_cfg=dict(),
    test_cfg=dict(
        score_thr=0.001,
        nms_pre=30000,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=300,
    ),
)
