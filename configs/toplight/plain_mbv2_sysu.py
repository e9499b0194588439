# MobileNetV2 with ImageNet weights and nothing of TOPLight; not in the paper.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = 'torchvision://mobilenet_v2.imagenet1k_v2'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightMobileNetV2',
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('conv1', 'layer1'),
    ),
)
