# ViT-B/16 with the progressive decoder for salient objects, and a paired preprocessor.
# The wrapper that reads both images is up to the config: `type='mmir.EarlyFusion'`,
# `'mmir.SingleModality'` or IV-tuning, with `target='mmseg.EncoderDecoder'`.
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
            ir=dict(mean=0.0, std=255.0, channels=3),  # 0 to 1, as published
        ),
        size=(384, 384),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type='mmir.TransformerTaps',
        backbone=dict(
            type='mmpretrain.VisionTransformer',
            arch='base',
            img_size=384,
            patch_size=16,
            drop_path_rate=0.1,
        ),
        # Half of the published 7, 11, 15, 23 of the 24 blocks of EVA-02-L: strides 4,
        # 8, 16, 32
        blocks=(3, 5, 7, 11),
        scales=(4, 2, 1, 0.5),
    ),
    decode_head=dict(
        type='mmir.SODHead',
        in_channels=[768, 768, 768, 768],
        channels=96,  # 768, 384, 192, 96 from deep to shallow, as published
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
