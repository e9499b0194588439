# Schedule of mmseg's transformers, 40,000 iterations.

# ========================== values one often changes ==========================
max_iters = 40000
base_lr = 1e-4

# ========================= values that rarely change ==========================
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=4000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    # no decay of norms, biases and the scales in adapters
    constructor='mmir.CompleteOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=base_lr, betas=(0.9, 0.999), weight_decay=0.01),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(
        type='PolyLR',
        eta_min=0.0,
        power=1.0,
        begin=1500,
        end=max_iters,
        by_epoch=False,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
custom_hooks = [dict(type='mmir.AdapterCheckpointHook')]  # writes adapter.pth
