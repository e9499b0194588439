# TOPLight (CVPR 2023) with MobileNetV3-L: stems and shared blocks from task-oriented
# pretraining, FDR. From the paper: slices, up-sampling and shuffle attention.
_base_ = './light_mbv3l.py'

pretrained = 'work_dirs/top_mbv3l/soup.pth'
model = dict(
    backbone=dict(
        backbone=dict(init_cfg=None),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    neck=dict(_delete_=True, **_base_.fdr_neck),
    head=dict(in_channels=1920),
)
