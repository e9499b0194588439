# A short run from a detector that knows the classes: 400 steps of 4 at 62 images.
_base_ = './adam_200e.py'

# ========================== values one often changes ==========================
max_epochs = 25
base_lr = 1e-3

# ========================= values that rarely change ==========================
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=base_lr))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-3,
        begin=0,
        end=1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.1,
        begin=1,
        end=max_epochs,
        T_max=max_epochs - 1,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=4)
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.AdapterCheckpointHook'),
    dict(type='mmir.ScheduleEMAHook', update_buffers=True, priority=49),
]
