# Baseline: full fine-tuning. The patch embedding is the sum of a visible
# and an infrared one.
_base_ = './clip-vit-b_pairs.py'

model = dict(
    type='mmir.EarlyFusion',
    target='mmpretrain.ImageClassifier',
    fusion=dict(init='zero'),  # starts as the RGB model
    backbone=dict(adapt=dict(_delete_=True, type='Full')),
)
optim_wrapper = dict(optimizer=dict(lr=1e-5))
