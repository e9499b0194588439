# SegFormer's head on Swin-L with a paired data preprocessor.
num_classes = 9
# the file of mmseg's model zoo, or timm's swin_large_patch4_window12_384.ms_in22k, from
# tools/model_converters/timm_vit.py --family swin --prefix backbone.
checkpoint = 'work_dirs/swin-large-384_mmseg.pth'
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
        type='mmseg.SwinTransformer',
        pretrain_img_size=384,
        embed_dims=192,
        depths=[2, 2, 18, 2],
        num_heads=[6, 12, 24, 48],
        window_size=12,
        drop_path_rate=0.2,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    ),
    decode_head=dict(
        type='SegformerHead',
        in_channels=[192, 384, 768, 1536],
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
