# Task-oriented pretraining of GhostNet 1.3x. Needs `pip install timm`.
_base_ = './top_mbv3l.py'

checkpoint = 'checkpoints/ghostnet_130.safetensors'  # a file of yours; timm has none
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightGhostNet',
            width=1.3,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='ghostnet_1.3x',
    ),
    head=dict(in_channels=1280, domain=dict(channels=(52, 1280))),
)
