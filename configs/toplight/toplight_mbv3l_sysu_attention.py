# Shuffle attention on the map as it is, without slices; not in the paper.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(slices=[])),
    head=dict(in_channels=1280),
)
