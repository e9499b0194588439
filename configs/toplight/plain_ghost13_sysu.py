# GhostNet 1.3x with ImageNet weights and nothing of TOPLight: table 4, left.
# Needs `pip install timm`.
_base_ = './plain_mbv3l_sysu.py'

checkpoint = 'checkpoints/ghostnet_130.safetensors'  # a file of yours; timm has none
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightGhostNet',
            width=1.3,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        stem=('timm_model.conv_stem', 'timm_model.bn1', 'timm_model.blocks.0'),
    ),
)
