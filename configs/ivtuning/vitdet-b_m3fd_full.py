# Baseline: full fine-tuning. The patch embedding is the sum of a visible
# and an infrared one.
_base_ = './vitdet-b_m3fd.py'

model = dict(
    type='mmir.EarlyFusion',
    target='mmdet.FasterRCNN',
    fusion=dict(init='zero'),  # starts as the RGB model
    backbone=dict(backbone=dict(adapt=dict(_delete_=True, type='Full'))),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
