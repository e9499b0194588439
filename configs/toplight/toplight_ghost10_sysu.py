# TOPLight with GhostNet 1.0x on SYSU-MM01. Run `top_ghost10.py` first.
_base_ = './plain_ghost10_sysu.py'

pretrained = 'work_dirs/top_ghost10/soup.pth'
model = dict(
    backbone=dict(
        backbone=dict(init_cfg=None),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    neck=dict(_delete_=True, **_base_.fdr_neck),
    head=dict(in_channels=1920),
)
