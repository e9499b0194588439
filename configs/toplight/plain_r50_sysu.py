# ResNet-50 with ImageNet weights: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = 'torchvision://resnet50'  # 76.1 % on ImageNet; the paper's has 78.8 %
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmpretrain.ResNet',
            depth=50,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('conv1', 'bn1'),
    ),
    head=dict(in_channels=2048),
)
