# Task-oriented pretraining of ShuffleNetV2 1.0x.
_base_ = './top_mbv3l.py'

checkpoint = 'torchvision://shufflenet_v2_x1_0.imagenet1k_v1'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightShuffleNetV2',
            widen_factor=1.0,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='shufflenetv2_1.0x',
    ),
    head=dict(in_channels=1024, domain=dict(channels=(116, 1024))),
)
