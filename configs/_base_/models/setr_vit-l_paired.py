# SETR-PUP on ViT-L/16 with a paired data preprocessor.
num_classes = 9
norm_cfg = dict(type='BN')  # not SyncBN, which needs GPUs
# timm's vit_large_patch16_384, from tools/model_converters/timm_vit.py --family vit
checkpoint = 'work_dirs/vit-large-p16-384.pth'
head = dict(
    type='SETRUPHead',
    in_channels=1024,
    channels=256,
    dropout_ratio=0,
    kernel_size=3,
    num_classes=num_classes,
    norm_cfg=norm_cfg,
    align_corners=False,
)
deep = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)
shallow = dict(type='mmseg.CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)
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
            arch='large',
            img_size=512,
            patch_size=16,
            drop_path_rate=0.1,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        blocks=(9, 14, 19, 23),  # all at stride 16, as in SETR
    ),
    decode_head=dict(head, in_index=3, num_convs=4, up_scale=2, loss_decode=deep),
    auxiliary_head=[
        dict(head, in_index=0, num_convs=1, up_scale=4, loss_decode=shallow),
        dict(head, in_index=1, num_convs=1, up_scale=4, loss_decode=shallow),
        dict(head, in_index=2, num_convs=1, up_scale=4, loss_decode=shallow),
    ],
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)
