# ========================== values one often changes ==========================
max_epochs = 200  # paper
base_lr = 1e-3  # paper, infrared stage; 1e-5 in its RGB stage

# =========================== values one may change ============================
warmup_epochs = 3  # at most 5 % of the epochs
weight_decay = 5e-4 * 40 / 64  # for batches of 40 images
ema_horizon = 0.1  # averaging window, as a fraction of the training

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmir.CompleteOptimWrapperConstructor',
    optimizer=dict(
        type='Adam', lr=base_lr, betas=(0.937, 0.999), weight_decay=weight_decay
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    # all groups start low: the bias warmup from 0.1 of the SGD recipe breaks Adam
    dict(
        type='LinearLR',
        start_factor=1e-3,
        begin=0,
        end=warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.1,
        begin=warmup_epochs,
        end=max_epochs,
        T_max=max_epochs - warmup_epochs,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=40)
custom_hooks = [
    dict(type='NumClassCheckHook'),
    dict(type='mmir.SubsetRecordHook'),
    dict(type='mmir.AdapterCheckpointHook'),
    dict(
        type='mmir.ScheduleEMAHook',
        horizon=ema_horizon,
        update_buffers=True,
        priority=49,
    ),
    # no mosaic in the last tenth of the epochs
    dict(
        type='YOLOXModeSwitchHook',
        num_last_epochs=max_epochs // 10,
        skip_type_keys=('Mosaic', 'mmir.CenteredRandomAffine', 'CachedMixUp'),
        priority=48,
    ),
]
