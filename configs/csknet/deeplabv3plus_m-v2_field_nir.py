# DeepLabV3+ on near infrared: the baseline, and the teacher of CSK-Net.
_base_ = [
    '../_base_/models/deeplabv3plus_m-v2_field.py',
    '../_base_/datasets/paired_field.py',
    '../_base_/schedules/sgd_40k.py',
    '../_base_/runtime/seg_iter.py',
]

model = dict(type='mmir.SingleModality', target='mmseg.EncoderDecoder', modality='nir')
