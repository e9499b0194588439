# TMPA on LLCM, whose images are taller.
_base_ = [
    '../_base_/models/tmpa_r50.py',
    '../_base_/datasets/reid_llcm.py',
    '../_base_/schedules/sgd_81e_tmpa.py',
    '../_base_/runtime/reid.py',
]

num_classes = 713
model = dict(
    data_preprocessor=dict(pedmix=dict(grid=(24, 9))),  # patches of 16x16
    head=dict(num_classes=num_classes),
)
demo = dict(length=40, lr=0.02)
