# Baseline: full fine-tuning. The patch embedding is the sum of a visible
# and an infrared one.
_base_ = './segformer-eva02-l_mfnet.py'

model = dict(
    type='mmir.EarlyFusion',
    target='mmseg.EncoderDecoder',
    fusion=dict(init='zero'),  # starts as the RGB model
    backbone=dict(backbone=dict(adapt=dict(_delete_=True, type='Full'))),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
