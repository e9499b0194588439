# Task-oriented pretraining of MobileNetV3-S.
_base_ = './top_mbv3l.py'

checkpoint = 'torchvision://mobilenet_v3_small'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightMobileNetV3',
            arch='small',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='mobilenetv3_small',
    ),
    head=dict(in_channels=1024, domain=dict(channels=(24, 1024))),
)
