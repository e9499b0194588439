# No attention: row 8 of table 3.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(attention=None)),
)
