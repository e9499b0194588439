# Early fusion: the first convolution reads color and one thermal channel.
_base_ = [
    '../_base_/models/deeplabv3plus_r18_paired.py',
    '../_base_/datasets/paired_seg.py',
    '../_base_/schedules/sgd_200e.py',
    '../_base_/runtime/seg.py',
]

model = dict(
    type='mmir.EarlyFusion',
    target='mmseg.EncoderDecoder',
    # what a checkpoint for 3 channels becomes: 'average', 'copy', 'zero'
    fusion=dict(init='average'),
)
