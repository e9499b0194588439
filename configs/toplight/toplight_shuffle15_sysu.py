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
        type='mmir.FDRNeck',
        fdr=dict(
            in_channels=1024,
            slices=['rows', 'columns'],
            upsample=True,
            attention='shuffle',
            groups=64,
        ),
        pool=dict(type='mmpretrain.GlobalAveragePooling'),
    ),
    head=dict(in_channels=1536),
)
