# CSK-Net around DeepLabV3+ on MobileNetV2, for red + near infrared.
_base_ = './deeplabv3plus_m-v2_field.py'

decoder = {{_base_.model.decode_head}}
model = dict(
    type='mmir.CSKNet',
    decode_head=dict(_delete_=True, type='mmir.CSKHead', decoder=decoder),
    shared=dict(channel_exchange=dict(), spatial_exchange=dict()),
    teacher=dict(modality='nir', checkpoint=None),  # plants are bright in it
    contrast=dict(channels=(24, 32, 96, 320), weight=0.1, warmup=5000),
)
