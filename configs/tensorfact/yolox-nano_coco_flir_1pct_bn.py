# Baseline: only batch norms and prediction layers are trained.
_base_ = './yolox-nano_coco_flir_1pct.py'

model = dict(
    adapt=dict(
        _delete_=True, type='Frozen', trainable=['multi_level_conv_'], norm='all'
    )
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
