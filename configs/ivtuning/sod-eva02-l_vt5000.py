# IV-tuning of EVA-02-L for salient objects: model and recipe of the published code,
# 8.9 M parameters in the adapters.
_base_ = [
    '../_base_/models/sod_eva02-l.py',
    '../_base_/datasets/paired_sod.py',
    '../_base_/schedules/sod_199e.py',
    '../_base_/runtime/seg.py',
]

model = dict(
    backbone=dict(
        backbone=dict(
            type='mmir.Adapted',
            target='mmir.ViTEVA02',
            adapt=dict(type='IVTuning', variant='hybrid', trainable=[]),
        )
    )
)
