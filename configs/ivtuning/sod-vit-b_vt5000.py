# IV-tuning of ViT-B/16 for salient objects, with the recipe of the published code.
_base_ = [
    '../_base_/models/sod_vit-b.py',
    '../_base_/datasets/paired_sod.py',
    '../_base_/schedules/sod_199e.py',
    '../_base_/runtime/seg.py',
]

# CLIP's or any other ViT-B/16, from tools/model_converters/timm_vit.py --family vit
checkpoint = 'work_dirs/vit-base-p16-384.pth'
model = dict(
    backbone=dict(
        backbone=dict(
            type='mmir.Adapted',
            target='mmpretrain.VisionTransformer',
            adapt=dict(type='IVTuning', variant='hybrid', trainable=[]),
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        )
    )
)
