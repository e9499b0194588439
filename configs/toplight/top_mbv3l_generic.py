# Generic augmentations only, and the identity loss: row 2 of table 3.
_base_ = './top_mbv3l_id.py'

views = dict(
    type='mmpretrain.MultiView',
    num_views=[1, 1],
    transforms=[_base_.generic, _base_.generic],
)
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, views, _base_.pack]))
