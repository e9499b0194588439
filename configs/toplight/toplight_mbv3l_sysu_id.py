# No FDR; pretrained with the identity loss: row 3 of table 3.
_base_ = './toplight_mbv3l_sysu_no_fdr.py'

pretrained = 'work_dirs/top_mbv3l_id/soup.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
