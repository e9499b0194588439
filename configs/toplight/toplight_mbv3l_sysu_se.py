# Squeeze and excitation in place of shuffle attention: table 5.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(attention='se')),
)
