# ViT-B with ImageNet weights: table 4, left.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = (
    'https://mmassets.onedl.ai/mmclassification/v0/vit/finetune/'
    'vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth'
)
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmpretrain.VisionTransformer',
            arch='b',
            img_size=(288, 144),
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.'),
        ),
        stem=('patch_embed.projection',),
    ),
    neck=None,  # the class token
    head=dict(in_channels=768),
)
