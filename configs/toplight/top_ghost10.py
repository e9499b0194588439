# Task-oriented pretraining of GhostNet 1.0x. Needs `pip install timm`.
_base_ = './top_mbv3l.py'

checkpoint = 'checkpoints/ghostnet_100.safetensors'  # a file of timm
model = dict(
    backbone=dict(
        backbone=dict(
            _delete_=True,
            type='mmir.LightGhostNet',
            width=1.0,
            init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
        ),
        network='ghostnet_1.0x',
    ),
    head=dict(in_channels=1280, domain=dict(channels=(40, 1280))),
)
