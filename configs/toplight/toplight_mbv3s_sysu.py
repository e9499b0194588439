# TOPLight with MobileNetV3-S on SYSU-MM01. Run `top_mbv3s.py` first.
_base_ = './plain_mbv3s_sysu.py'

pretrained = 'work_dirs/top_mbv3s/soup.pth'
model = dict(
    backbone=dict(
        backbone=dict(init_cfg=None),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    neck=dict(
        _delete_=True,
        **{**_base_.fdr_neck, 'fdr': dict(_base_.fdr_neck.fdr, in_channels=1024)},
    ),
    head=dict(in_channels=1536),
)
