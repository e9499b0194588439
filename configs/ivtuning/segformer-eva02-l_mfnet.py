# IV-tuning of SegFormer's head on EVA-02-L for segmentation: MFNet.
# Nothing is published of the authors' schedule for segmentation.
_base_ = [
    '../_base_/models/segformer_eva02-l_paired.py',
    '../_base_/datasets/paired_mfnet.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/seg_iter.py',
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
