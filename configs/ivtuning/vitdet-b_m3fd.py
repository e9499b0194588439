# IV-tuning of ViTDet-B: Faster R-CNN on a ViT with window attention, on M3FD.
_base_ = [
    '../_base_/models/vitdet-b_paired.py',
    '../_base_/datasets/paired_m3fd.py',
    '../_base_/schedules/adamw_50e.py',
    '../_base_/runtime/det.py',
]

model = dict(
    backbone=dict(
        backbone=dict(
            type='mmir.Adapted',
            target='mmpretrain.ViTSAM',
            adapt=dict(
                type='IVTuning',
                variant='hybrid',
                # published: batch norm, which two images per GPU are too few for
                norm_cfg=dict(type='GN', num_groups=4),
                trainable=[],
            ),
        )
    )
)
optim_wrapper = dict(optimizer=dict(weight_decay=0.1))  # published for ViTDet
demo = dict(length=2)  # epochs of `--demo`: two stages are slow on a CPU
