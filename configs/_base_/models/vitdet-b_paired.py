# Faster R-CNN on a ViT-B/16 with window attention and a simple feature pyramid, as in
# ViTDet (arXiv 2203.16527), with a paired data preprocessor.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

num_classes = 6
# SAM's image encoder as published by mmpretrain: vit-base-p16_sam-pre_3rdparty_sa1b
checkpoint = 'work_dirs/vit-base-p16_sam.pth'
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(
        _delete_=True,
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
        _delete_=True,
        type='mmir.TransformerTaps',
        backbone=dict(
            type='mmpretrain.ViTSAM',
            arch='base',
            img_size=1024,
            patch_size=16,
            out_channels=0,
            drop_path_rate=0.1,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
        ),
        blocks=(11, 11, 11, 11),
        scales=(4, 2, 1, 0.5),  # strides 4, 8, 16, 32
    ),
    neck=dict(
        _delete_=True,
        type='ChannelMapper',
        in_channels=[768, 768, 768, 768],
        out_channels=256,
        kernel_size=3,
        norm_cfg=dict(type='GN', num_groups=32),
        act_cfg=None,
        num_outs=5,
    ),
    roi_head=dict(bbox_head=dict(num_classes=num_classes)),
)
