# YOLOv7-L: 37.2 M parameters with three classes.
num_classes = 3
model = dict(
    type='mmir.YOLOv7',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_value=114 / 255,
    ),
    backbone=dict(type='mmir.YOLOv7Backbone', arch='l'),
    neck=dict(type='mmir.YOLOv7Neck', arch='l'),
    bbox_head=dict(
        type='mmir.YOLOHead',
        head_module=dict(
            type='mmir.YOLOHeadModule',
            in_channels=(256, 512, 1024),
            num_classes=num_classes,
        ),
        assigner=dict(type='mmir.OTAAssigner'),
        box_weight=0.05,
        obj_weight=0.7,  # at 640 px
        cls_weight=0.3,
    ),
    train_cfg=dict(),
    test_cfg=dict(
        score_thr=0.001,
        nms_pre=30000,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=300,
    ),
)
