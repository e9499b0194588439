# Shuffle attention without its shuffle: "SA (w/o cs.)" of table 5.
_base_ = './toplight_mbv3l_sysu.py'

model = dict(
    neck=dict(fdr=dict(attention='no_shuffle')),
)
