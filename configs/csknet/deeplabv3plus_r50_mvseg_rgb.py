# DeepLabV3+ on the RGB images of MVSeg: the baseline, and the teacher of CSK-Net.
_base_ = [
    '../_base_/models/deeplabv3plus_r50_paired.py',
    '../_base_/datasets/paired_mvseg.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(
    type='mmir.SingleModality',
    target='mmseg.EncoderDecoder',
    modality='rgb',
    data_preprocessor=dict(size={{_base_.crop_size}}),
    decode_head=dict(num_classes=26),
)
