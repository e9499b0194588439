# Baseline: early fusion, the first convolution reads both images.
_base_ = [
    '../_base_/models/deeplabv3plus_r50_paired.py',
    '../_base_/datasets/paired_msrs_vga.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(
    type='mmir.EarlyFusion',
    target='mmseg.EncoderDecoder',
    fusion=dict(init='average'),
)
test_cfg = dict(type='mmir.MissingModalityTestLoop')
