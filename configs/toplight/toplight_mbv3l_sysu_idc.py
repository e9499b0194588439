# No FDR; pretrained without the fake domain loss: row 4 of table 3.
_base_ = './toplight_mbv3l_sysu_no_fdr.py'

pretrained = 'work_dirs/top_mbv3l_idc/soup.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
