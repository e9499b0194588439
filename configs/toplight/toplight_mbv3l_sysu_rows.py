# Horizontal slices only, no attention: row 7 of table 3.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(slices=['rows'], attention=None)),
    head=dict(in_channels=960),
)
