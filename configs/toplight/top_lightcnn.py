# Task-oriented pretraining of LightCNN-29, on images of 128x128 (ours).
_base_ = './top_mbv3l.py'

size = 128
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))  # it has no norms
checkpoint = 'checkpoints/LightCNN_29Layers_checkpoint.pth.tar'  # of its authors
small = [
    dict(type='mmpretrain.RandomResizedCrop', scale=size, crop_ratio_range=(0.5, 1.0)),
    *_base_.generic[1:],
]
center = [
    dict(type='mmpretrain.ResizeEdge', scale=144, edge='short'),
    dict(type='mmpretrain.CenterCrop', crop_size=size),
]
views = dict(type='mmpretrain.MultiView', num_views=[1, 1])
train_views = dict(transforms=[[*small, *_base_.color], [*small, *_base_.texture]])
test_views = dict(transforms=[center, [*center, _base_.gray]])
train_dataloader = dict(
    dataset=dict(pipeline=[_base_.load, dict(**views, **train_views), _base_.pack])
)
val_dataloader = dict(
    dataset=dict(pipeline=[_base_.load, dict(**views, **test_views), _base_.pack])
)
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0]),
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightCNN',
            size=128,
            feature=False,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='lightcnn29',
    ),
    head=dict(in_channels=128, domain=dict(channels=(192, 128))),
)
