# IV-tuning of ViT-S/16 under RTMDet's neck and head: registered pairs in FLIR layout.
_base_ = [
    '../_base_/models/rtmdet_vit-s_paired.py',
    '../_base_/datasets/paired_det.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/runtime/det.py',
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
demo = dict(data='street', modality='ir')  # synthetic data of `--demo`
