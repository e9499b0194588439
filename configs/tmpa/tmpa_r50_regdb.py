# TMPA on RegDB, one trial: --cfg-options trial=2 for the second.
_base_ = [
    '../_base_/models/tmpa_r50.py',
    '../_base_/datasets/reid_regdb.py',
    '../_base_/schedules/sgd_81e_tmpa.py',
    '../_base_/runtime/reid.py',
]

num_classes = 206
model = dict(head=dict(num_classes=num_classes))
demo = dict(length=40, lr=0.02)
