# TOP and FDR: "B+TOP+FDR" of the paper's table 8. Run `top_lightcnn.py` first.
_base_ = './lightcnn_faces.py'

pretrained = 'work_dirs/top_lightcnn/soup.pth'
model = dict(
    backbone=dict(
        backbone=dict(feature=False, init_cfg=None),
        init_cfg=dict(type='Pretrained', checkpoint=pretrained),
    ),
    neck=dict(
        _delete_=True,
        type='mmir.FDRNeck',
        fdr=dict(in_channels=128, groups=32),
        pool=dict(type='mmpretrain.GlobalAveragePooling'),
    ),
    head=dict(in_channels=192),
)
