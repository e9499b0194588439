# No FDR; pretrained on generic augmentations: row 2 of table 3.
_base_ = './toplight_mbv3l_sysu_no_fdr.py'

pretrained = 'work_dirs/top_mbv3l_generic/soup.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
