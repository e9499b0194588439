# Shuffle attention on the map as it is: "GAP" of table 5, which is row 6 of table 3.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(slices=[])),
    head=dict(in_channels=1280),
)
