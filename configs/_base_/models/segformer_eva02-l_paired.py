# SegFormer's head on EVA-02-L/16 with a paired data preprocessor.
num_classes = 9
# EVA-02-L with patches of 16 px: see configs/ivtuning/README.md
checkpoint = 'work_dirs/eva02-large-p16-512.pth'
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='mmir.PairedSegDataPreprocessor',
        modalities=dict(
            rgb=dict(
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
            ),
            ir=dict(mean=108.375, std=51.0, channels=3),
        ),
        size=(512, 512),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmir.TransformerTaps',
        backbone=dict(
            type='mmir.ViTEVA02',
            arch='large',
            img_size=512,
            patch_size=16,
            sub_ln=True,
            norm_cfg=dict(type='LN', eps=1e-6),
            drop_path_rate=0.2,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        blocks=(7, 11, 15, 23),
        scales=(4, 2, 1, 0.5),  # strides 4, 8, 16, 32
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[1024, 1024, 1024, 1024],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=dict(type='BN'),  # not SyncBN, which needs GPUs
        align_corners=False,
        loss_decode=dict(
            type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
