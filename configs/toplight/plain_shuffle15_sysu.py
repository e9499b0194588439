# ShuffleNetV2 1.5x with ImageNet weights and nothing of TOPLight: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = 'torchvision://shufflenet_v2_x1_5.imagenet1k_v1'
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightShuffleNetV2',
            widen_factor=1.5,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('conv1',),
    ),
    head=dict(in_channels=1024),
)
