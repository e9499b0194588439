# YOLOX-nano of mmdet: 0.9 M parameters, depthwise and 1x1 convolutions.
num_classes = 3
norm_cfg = dict(type='BN', momentum=0.03, eps=0.001)
act_cfg = dict(type='mmdet.SiLU')  # the same function as Swish, in one operation
bce = dict(
    type='mmdet.CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0
)
model = dict(
    type='YOLOX',
    data_preprocessor=dict(  # BGR, 0..255
        type='DetDataPreprocessor', pad_size_divisor=32, pad_value=114
    ),
    backbone=dict(
        type='mmdet.CSPDarknet',
        deepen_factor=0.33,
        widen_factor=0.25,
        out_indices=(2, 3, 4),
        use_depthwise=True,
        spp_kernal_sizes=(5, 9, 13),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    neck=dict(
        type='YOLOXPAFPN',
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        use_depthwise=True,
        upsample_cfg=dict(scale_factor=2, mode='nearest'),
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type='YOLOXHead',
        num_classes=num_classes,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        strides=(8, 16, 32),
        use_depthwise=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        loss_cls=bce,
        loss_bbox=dict(
            type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0
        ),
        loss_obj=bce,
        loss_l1=dict(type='mmdet.L1Loss', reduction='sum', loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
    test_cfg=dict(score_thr=0.001, nms=dict(type='nms', iou_threshold=0.65)),
)
