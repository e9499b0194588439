# TMPA on SYSU-MM01.
_base_ = [
    '../_base_/models/tmpa_r50.py',
    '../_base_/datasets/reid_sysu.py',
    '../_base_/schedules/sgd_81e_tmpa.py',
    '../_base_/runtime/reid.py',
]

# `--demo`: several losses on one network without pretrained weights
demo = dict(length=40, lr=0.02)
