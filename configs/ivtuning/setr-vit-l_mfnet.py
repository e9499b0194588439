# IV-tuning of SETR-PUP on ViT-L/16 for segmentation: MFNet.
# Nothing is published of the authors' schedule for segmentation.
_base_ = [
    '../_base_/models/setr_vit-l_paired.py',
    '../_base_/datasets/paired_mfnet.py',
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
