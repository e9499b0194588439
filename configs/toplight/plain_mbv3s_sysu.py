# MobileNetV3-S with ImageNet weights and nothing of TOPLight: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = 'torchvision://mobilenet_v3_small'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightMobileNetV3',
            arch='small',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('layer0',),
    ),
    head=dict(in_channels=1024),
)
