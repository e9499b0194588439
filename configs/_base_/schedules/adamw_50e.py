# Schedule of the published IV-tuning code for detection. There the backbone's rate, and
# with it that of the prompts, is a tenth; here all that trains has the same rate.

# ========================== values one often changes ==========================
max_epochs = 50
base_lr = 1e-4

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    # no decay of norms, biases and the scales in adapters
    constructor='mmir.CompleteOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
)
param_scheduler = [
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
custom_hooks = [dict(type='mmir.AdapterCheckpointHook')]  # writes adapter.pth
