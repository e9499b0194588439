# UPerNet on ViT-B/16 with a paired data preprocessor.
num_classes = 9
norm_cfg = dict(type='BN')  # not SyncBN, which needs GPUs
# timm's vit_base_patch16_384, from tools/model_converters/timm_vit.py --family vit
checkpoint = 'work_dirs/vit-base-p16-384.pth'
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
            type='mmpretrain.VisionTransformer',
            arch='base',
            img_size=512,
            patch_size=16,
            drop_path_rate=0.1,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        blocks=(2, 5, 8, 11),
        scales=(4, 2, 1, 0.5),  # strides 4, 8, 16, 32
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
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
        in_channels=768,
        in_index=2,
        channels=256,
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
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
