# Schedule of mmseg's convolutional networks, 40,000 iterations.

# ========================== values one often changes ==========================
max_iters = 40000
base_lr = 0.01

# ========================= values that rarely change ==========================
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    # No decay of norms and biases. The scale of an exchanged channel has no gradient:
    # decay would only shrink it, and the exchange would never end.
    constructor='mmir.CompleteOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=max_iters, by_epoch=False)
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
