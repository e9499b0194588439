# TOPLight with ShuffleNetV2 1.5x on SYSU-MM01. Run `top_shuffle15.py` first.
_base_ = './plain_shuffle15_sysu.py'

pretrained = 'work_dirs/top_shuffle15/soup.pth'
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
