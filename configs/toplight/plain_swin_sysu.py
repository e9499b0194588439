# Swin-T with ImageNet weights: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = (
    'https://mmassets.onedl.ai/mmclassification/v0/swin-transformer/'
    'swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth'
)
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmpretrain.SwinTransformer',
            arch='tiny',
            img_size=288,
            pad_small_map=True,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
        ),
        stem=('patch_embed.projection', 'patch_embed.norm'),
    ),
    head=dict(in_channels=768),
)
