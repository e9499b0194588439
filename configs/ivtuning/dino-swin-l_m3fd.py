# IV-tuning of Swin-L under DINO with five scales, on M3FD: data and schedule of the
# published code, except that the prompts train at the full rate.
_base_ = [
    '../_base_/models/dino_swin-l_paired.py',
    '../_base_/datasets/paired_m3fd.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/runtime/det.py',
]

model = dict(
    backbone=dict(
        type='mmir.Adapted',
        target='mmdet.SwinTransformer',
        adapt=dict(
            type='IVTuning',
            variant='hybrid',
            # published: batch norm, which two images per GPU are too few for
            norm_cfg=dict(type='GN', num_groups=4),
            trainable=[],
        ),
    )
)
demo = dict(length=2)  # epochs of `--demo`: DINO is slow on a CPU
