# Baseline: a frozen backbone. The patch embedding, the sum of a visible
# and an infrared one, trains as well.
_base_ = './rtmdet-vit-s_flir.py'

model = dict(
    type='mmir.EarlyFusion',
    target='mmdet.RTMDet',
    fusion=dict(init='zero'),  # starts as the RGB model
    backbone=dict(
        backbone=dict(
            adapt=dict(_delete_=True, type='Frozen', trainable=['patch_embed'])
        )
    ),
)
# pretrained weights that train need a small rate
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(patch_embed=dict(lr_mult=0.1)))
)
