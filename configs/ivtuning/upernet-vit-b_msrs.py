# IV-tuning of UPerNet on ViT-B/16 for segmentation: MSRS.
# Nothing is published of the authors' schedule for segmentation.
_base_ = [
    '../_base_/models/upernet_vit-b_paired.py',
    '../_base_/datasets/paired_msrs.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(
    backbone=dict(
        backbone=dict(
            type='mmir.Adapted',
            target='mmpretrain.VisionTransformer',
            adapt=dict(type='IVTuning', variant='hybrid', trainable=[]),
        )
    )
)
