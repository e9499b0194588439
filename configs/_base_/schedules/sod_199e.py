# Schedule of the published IV-tuning code for salient objects. That code keeps the
# epoch with the best MAE on the test set; here it is the last epoch.

# ========================== values one often changes ==========================
max_epochs = 199
base_lr = 5e-5

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=20)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='Adam', lr=base_lr),
    clip_grad=dict(type='value', clip_value=0.5),
)
# from the 100th epoch on
param_scheduler = [
    dict(type='MultiStepLR', milestones=[99], gamma=0.1, by_epoch=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=8)
custom_hooks = [dict(type='mmir.AdapterCheckpointHook')]  # writes adapter.pth
