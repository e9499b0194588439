# Generic augmentations only, and the identity loss: row 2 of table 3. Both views of the
# validation are in color, as those of the training.
_base_ = './top_mbv3l_id.py'

views = dict(
    type='mmpretrain.MultiView',
    num_views=[1, 1],
    transforms=[_base_.generic, _base_.generic],
)
both = dict(views, transforms=[_base_.center, _base_.center])
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, views, _base_.pack]))
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, both, _base_.pack]))
test_dataloader = val_dataloader
