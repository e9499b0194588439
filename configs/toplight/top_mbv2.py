# Task-oriented pretraining of MobileNetV2.
_base_ = './top_mbv3l.py'

checkpoint = 'torchvision://mobilenet_v2.imagenet1k_v2'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightMobileNetV2',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='mobilenetv2',
    ),
    head=dict(in_channels=1280, domain=dict(channels=(32, 1280))),
)
