# DeepLabV3+ on the RGB images of MFNet: the baseline, and the teacher of CSK-Net.
_base_ = [
    '../_base_/models/deeplabv3plus_r50_paired.py',
    '../_base_/datasets/paired_mfnet_vga.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(
    type='mmir.SingleModality',
    target='mmseg.EncoderDecoder',
    modality='rgb',
)
