# Slices are not up-sampled: "H_s+V_s (w/o u.)" of table 5.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(upsample=False)),
)
