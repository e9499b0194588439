# The schedule of AGW: warm-up of ten epochs, steps at epochs 20 and 50. Its published
# code counts epochs 0 to 80.

# ========================== values one often changes ==========================
max_epochs = 81
base_lr = 0.1  # of the head; the backbone has a tenth
warmup_epochs = 10

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=base_lr, momentum=0.9, weight_decay=5e-4, nesterov=True
    ),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / warmup_epochs, begin=0, end=warmup_epochs),
    dict(type='MultiStepLR', milestones=[20, 50], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=64)
