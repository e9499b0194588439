# Task-oriented pretraining: SGD with a cosine. All numbers are ours.

# ========================== values one often changes ==========================
max_epochs = 30
base_lr = 0.01

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=max_epochs, begin=0, end=max_epochs)
]
auto_scale_lr = dict(enable=False, base_batch_size=256)
