# DeepLabV3+ on ResNet-18 with a paired data preprocessor.
num_classes = 9
norm_cfg = dict(type='BN')  # not SyncBN, which needs GPUs
colour = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
grey = dict(mean=116.0, std=57.0, channels=1)  # one channel, as the pipeline loads it
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='mmir.PairedSegDataPreprocessor',
        modalities=dict(rgb=dict(colour, bgr_to_rgb=True), ir=grey),
        size=(480, 480),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmseg.ResNetV1c',
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style='pytorch',
        contract_dilation=True,
    ),
    decode_head=dict(
        type='DepthwiseSeparableASPPHead',
        in_channels=512,
        in_index=3,
        channels=128,
        dilations=(1, 12, 24, 36),
        c1_in_channels=64,
        c1_channels=12,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=256,
        in_index=2,
        channels=64,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
