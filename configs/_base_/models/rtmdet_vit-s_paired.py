# RTMDet's neck and head (those of RTMDet-s) on ViT-S/16, with a paired data
# preprocessor: small enough for any one GPU.
num_classes = 3
norm_cfg = dict(type='BN')  # not SyncBN, which needs GPUs
act_cfg = dict(type='mmdet.SiLU')
# timm's vit_small_patch16_384, from tools/model_converters/timm_vit.py --family vit
checkpoint = 'work_dirs/vit-small-p16-384.pth'
model = dict(
    type='RTMDet',
    data_preprocessor=dict(
        type='mmir.PairedDetDataPreprocessor',
        modalities=dict(
            rgb=dict(
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
            ),
            ir=dict(mean=108.375, std=51.0, channels=3),
        ),
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='mmir.TransformerTaps',
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch='deit-small',  # the widths of timm's ViT-S
            img_size=640,
            patch_size=16,
            drop_path_rate=0.1,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        blocks=(11, 11, 11),
        scales=(2, 1, 0.5),  # strides 8, 16, 32
    ),
    neck=dict(
        type='CSPNeXtPAFPN',
        in_channels=[384, 384, 384],
        out_channels=128,
        num_csp_blocks=1,
        expand_ratio=0.5,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type='RTMDetSepBNHead',
        num_classes=num_classes,
        in_channels=128,
        feat_channels=128,
        stacked_convs=2,
        anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(
            type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0
        ),
        loss_bbox=dict(type='mmdet.GIoULoss', loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=False,
        share_conv=True,
        pred_kernel_size=1,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    train_cfg=dict(
        assigner=dict(type='DynamicSoftLabelAssigner', topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=30000,
        min_bbox_size=0,
        score_thr=0.001,
        nms=dict(type='nms', iou_threshold=0.65),
        max_per_img=300,
    ),
)
