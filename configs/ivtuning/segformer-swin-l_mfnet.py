# IV-tuning of SegFormer's head on Swin-L for segmentation: MFNet.
# Nothing is published of the authors' schedule for segmentation.
_base_ = [
    '../_base_/models/segformer_swin-l_paired.py',
    '../_base_/datasets/paired_mfnet.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(
    backbone=dict(
        type='mmir.Adapted',
        target='mmseg.SwinTransformer',
        adapt=dict(type='IVTuning', variant='hybrid', trainable=[]),
    )
)
