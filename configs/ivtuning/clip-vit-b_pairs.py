# IV-tuning of CLIP's ViT-B/16 for classification of pairs. The recipe is ours.
_base_ = [
    '../_base_/models/clip_vit-b_paired.py',
    '../_base_/datasets/paired_cls.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/runtime/cls.py',
]

model = dict(
    backbone=dict(
        type='mmir.Adapted',
        target='mmpretrain.VisionTransformer',
        adapt=dict(type='IVTuning', variant='hybrid', trainable=[]),
    )
)
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
auto_scale_lr = dict(base_batch_size=32)
