# Task-oriented pretraining of ShuffleNetV2 1.5x.
_base_ = './top_mbv3l.py'

checkpoint = 'torchvision://shufflenet_v2_x1_5.imagenet1k_v1'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightShuffleNetV2',
            widen_factor=1.5,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='shufflenetv2_1.5x',
    ),
    head=dict(in_channels=1024, domain=dict(channels=(176, 1024))),
)
