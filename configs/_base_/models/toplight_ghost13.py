# TOPLight (CVPR 2023) with GhostNet 1.3x: stems and shared blocks from task-oriented
# pretraining, FDR. Needs `pip install timm`.
_base_ = './toplight_mbv3l.py'

pretrained = 'work_dirs/top_ghost13/soup.pth'
model = dict(
    backbone=dict(
        backbone=dict(_delete_=True, type='mmir.LightGhostNet', width=1.3),
        stem=('timm_model.conv_stem', 'timm_model.bn1', 'timm_model.blocks.0'),
        init_cfg=dict(checkpoint=pretrained),
    )
)
