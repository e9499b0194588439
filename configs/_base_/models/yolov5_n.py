# YOLOv5n: 1.8 M parameters with three classes.
num_classes = 3
model = dict(
    type='mmir.YOLOv5',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[0.0, 0.0, 0.0],
        std=[255.0, 255.0, 255.0],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        pad_value=114 / 255,
    ),
    backbone=dict(type='mmir.YOLOv5Backbone', arch='n'),
    neck=dict(type='mmir.YOLOv5Neck', arch='n'),
    bbox_head=dict(
        type='mmir.YOLOHead',
        head_module=dict(
            type='mmir.YOLOHeadModule',
            in_channels=(64, 128, 256),
            num_classes=num_classes,
            implicit=False,
        ),
        anchors=(  # of the released models; a checkpoint brings its own
            ((10, 13), (16, 30), (33, 23)),
            ((30, 61), (62, 45), (59, 119)),
            ((116, 90), (156, 198), (373, 326)),
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
