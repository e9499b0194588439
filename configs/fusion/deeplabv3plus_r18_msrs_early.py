# Early fusion: the first convolution reads three color channels and one thermal.
_base_ = [
    '../_base_/models/deeplabv3plus_r18_paired.py',
    '../_base_/datasets/paired_seg.py',
    '../_base_/schedules/sgd_200e.py',
    '../_base_/runtime/seg.py',
]

model = dict(
    type='mmir.EarlyFusion',
    target='mmseg.EncoderDecoder',
    # how to widen a 3-channel checkpoint: 'average', 'copy', 'zero'
    fusion=dict(init='average'),
)
