# ConvNeXt-T with ImageNet weights: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = (
    'https://mmassets.onedl.ai/mmclassification/v0/convnext/'
    'convnext-tiny_32xb128_in1k_20221207-998cf3e9.pth'
)
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmpretrain.ConvNeXt',
            arch='tiny',
            gap_before_final_norm=False,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
        ),
        stem=('downsample_layers.0',),
    ),
    head=dict(in_channels=768),
)
