# No FDR: row 5 of table 3.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(_delete_=True, type='mmpretrain.GlobalAveragePooling'),
    head=dict(in_channels=1280),
)
