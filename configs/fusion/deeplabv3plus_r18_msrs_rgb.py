# RGB only, on the paired data and augmentation of the fusion configs.
_base_ = [
    '../_base_/models/deeplabv3plus_r18_paired.py',
    '../_base_/datasets/paired_seg.py',
    '../_base_/schedules/sgd_200e.py',
    '../_base_/runtime/seg.py',
]

model = dict(type='mmir.SingleModality', target='mmseg.EncoderDecoder', modality='rgb')
