# How DVG-Face's published code fine-tunes LightCNN: rate, decay, steps and batch. It
# trains only the classifier in the first four epochs, which is left out here. The
# factor of the steps is ours.

# ========================== values one often changes ==========================
max_epochs = 15
base_lr = 1e-3

# ========================= values that rarely change ==========================
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=base_lr, momentum=0.9, weight_decay=2e-4),
)
param_scheduler = [dict(type='StepLR', step_size=5, gamma=0.5)]
auto_scale_lr = dict(enable=False, base_batch_size=64)
